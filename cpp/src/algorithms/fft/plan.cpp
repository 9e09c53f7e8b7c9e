#include "algorithms/fft/plan.hpp"

#include <algorithm>

#include "algorithms/fft/kernel.hpp"
#include "algorithms/fft/layout.hpp"
#include "algorithms/repair/repair.hpp"
#include "core/index_map.hpp"
#include "core/workspace.hpp"
#include "strip/strip.hpp"
#include "threading/parallel_for.hpp"

namespace npconv::fft {
namespace {

constexpr int chunk_rows = 8;  // rows that are copied at a time where a tile can't be read in place

const FftRowKernels& row_kernels(const Isa& isa) {
    static const FftRowKernels* const table[] = {
#define NPCONV_ISA(n) &n::fft_row_kernels,
#include "isa/list.inc"
    };
    return *table[isa.level];
}

const FftColumnKernels& column_kernels(const Isa& isa) {
    static const FftColumnKernels* const table[] = {
#define NPCONV_ISA(n) &n::fft_column_kernels,
#include "isa/list.inc"
    };
    return *table[isa.level];
}

std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

// Rows [lo, hi) of the transform that may differ from zero, if padding is zero: only where one tile holds them all, for
// whether a row is computed must not depend on the tiles that share its vectors.
struct Live {
    int lo, hi;
};
Live live_rows(const TileMap& m, const Tiling& t) {
    Live r{0, t.size};
    if (t.tiles > 1) return r;
    const auto constant = [&](int i) { return m.index(0, i) == constant_index; };
    while (r.hi > 1 && constant(r.hi - 1)) --r.hi;
    while (r.lo < r.hi - 1 && constant(r.lo)) ++r.lo;
    return r;
}

bool padded(const Axis& a) { return a.mode == PadMode::constant && (a.pad_begin > 0 || a.pad_end > 0); }

struct Tile {
    std::int64_t n, row, column;  // image, tile row, tile column
    std::int64_t y, x;            // first output
    int rows, columns;            // outputs
};

template <class T> class FftPlan final : public Plan {
public:
    FftPlan(const ConvDesc& d, const Algorithm& a, const Isa& i, const Params& p)
        : Plan(d, a, i, p),
          rows_(p.v[tile_w], i),
          columns_(p.v[tile_h], true, i),
          vertical_(tiling(d.h(), p.v[tile_h])),
          horizontal_(tiling(d.w(), p.v[tile_w])),
          row_map_(d.h(), vertical_),
          column_map_(d.w(), horizontal_),
          live_(live_rows(row_map_, vertical_)),
          row_(row_kernels(i).of<T>()),
          column_(column_kernels(i).of<T>()),
          strip_(strip_kernels(i).of<T>()),
          lanes_(i.vector_bytes / static_cast<int>(sizeof(T))),
          bins_(p.v[tile_w] / 2 + 1),
          points_(std::int64_t(bins_) * p.v[tile_h]),
          lane_channels_(p.v[lanes_are_channels] != 0),
          fused_(d.icg() == 1 && d.ocg() == 1),
          padded_(padded(d.h()) || padded(d.w())) {}

    std::size_t packed_bytes() const override {
        const std::int64_t filters = desc.oc * desc.icg();
        return static_cast<std::size_t>((lane_channels_ ? round_up(filters, lanes_) : filters) * 2 * points_) * sizeof(T);
    }

    void pack(const Tensor& wei, void* packed, int threads) const override {
        const std::int64_t filters = desc.oc * desc.icg(), groups = (filters + lanes_ - 1) / lanes_;
        const int workers = static_cast<int>(std::clamp<std::int64_t>(threads, 1, groups));
        const std::int64_t slab = std::int64_t(horizontal_.size) * lanes_, scratch = slab + spectrum_elements();
        const Lease lease(static_cast<std::size_t>(scratch * workers) * sizeof(T));
        const auto body = [&](std::int64_t group, int worker) {
            T* const row = static_cast<T*>(lease.data()) + worker * scratch;
            pack_group(wei, group, row, row + slab, static_cast<T*>(packed));
        };
        parallel_for(groups, workers, body);
    }

    std::size_t workspace_bytes(std::int64_t mb, int threads) const override {
        const std::int64_t workers = std::clamp<std::int64_t>(tasks(mb), 1, threads);
        return static_cast<std::size_t>(workers * worker_elements()) * sizeof(T);
    }

    void execute(const ConvArgs& args) const noexcept override {
        const auto body = [&](std::int64_t task, int worker) {
            T* const memory = static_cast<T*>(args.workspace) + worker * worker_elements();
            if (lane_channels_)
                channel_task(args, task, memory);
            else
                tile_task(args, task, memory);
        };
        parallel_for(tasks(args.src.size[0]), args.threads, body);
    }

private:
    std::int64_t tiles_per_image() const { return vertical_.tiles * horizontal_.tiles; }
    std::int64_t tasks(std::int64_t mb) const {
        const std::int64_t tiles = mb * tiles_per_image();
        return lane_channels_ ? (desc.g + lanes_ - 1) / lanes_ * tiles : desc.g * ((tiles + lanes_ - 1) / lanes_);
    }
    std::int64_t spectrum_elements() const { return points_ * 2 * lanes_; }
    std::int64_t work_elements() const { return round_up(horizontal_.size, lanes_) * lanes_; }
    int chunk() const { return std::min(chunk_rows, vertical_.size); }
    std::int64_t slab_elements() const { return std::int64_t(chunk()) * horizontal_.size * lanes_; }
    std::int64_t worker_elements() const {
        return (fused_ ? 1 : desc.icg() + 1) * spectrum_elements() + work_elements() + slab_elements();
    }

    void pack_group(const Tensor& wei, std::int64_t group, T* row, T* spectra, T* packed) const {
        const std::int64_t first = group * lanes_, filters = desc.oc * desc.icg();
        const int used = static_cast<int>(std::min<std::int64_t>(lanes_, filters - first));
        const std::int64_t step = 2 * std::int64_t(bins_) * lanes_;
        for (std::int64_t y = 0; y < desc.h().kernel; ++y) {
            std::fill(row, row + std::int64_t(horizontal_.size) * lanes_, T(0));
            for (int l = 0; l < used; ++l) {
                const T* w = wei.at<T>((first + l) / desc.icg(), (first + l) % desc.icg()) + y * wei.stride[3];
                for (std::int64_t x = 0; x < desc.w().kernel; ++x) row[x * lanes_ + l] = w[x * wei.stride[4]];
            }
            row_.forward_lanes(rows_.rows(), row, 1, spectra + y * step);
        }
        std::fill(spectra + desc.h().kernel * step, spectra + vertical_.size * step, T(0));
        column_.forward(columns_.passes(), bins_, spectra);
        // Both transforms double what they take apart, and neither inverse divides by its length.
        const T scale = static_cast<T>(0.25 / vertical_.size / horizontal_.size);
        column_.filter(vertical_.size, bins_, spectra, scale, lane_channels_, used, packed + first * 2 * points_,
                       2 * points_);
    }

    Tile tile(std::int64_t index) const {
        Tile t;
        t.n = index / tiles_per_image();
        t.row = index / horizontal_.tiles % vertical_.tiles;
        t.column = index % horizontal_.tiles;
        t.y = t.row * vertical_.step;
        t.x = t.column * horizontal_.step;
        t.rows = static_cast<int>(std::min(vertical_.step, desc.h().out - t.y));
        t.columns = static_cast<int>(std::min(horizontal_.step, desc.w().out - t.x));
        return t;
    }

    bool interior(const Tile& t) const { return row_map_.interior(t.row) && column_map_.interior(t.column); }

    // The strip loader's view of `rows` rows of a tile, from its row `first` on. offsets: memory for `rows` of them.
    StripSource<T> source(const ConvArgs& args, const Tile& t, std::int64_t channel, int first, int rows,
                          std::int64_t* offsets) const {
        for (int i = 0; i < rows; ++i) {
            const std::int32_t k = row_map_.index(t.row, first + i);
            offsets[i] = k < 0 ? constant_row : k * args.src.stride[3];
        }
        const TileMap::View columns = column_map_.view(t.column);
        StripSource<T> s;
        s.image = args.src.at<const T>(t.n, channel) + columns.offset * args.src.stride[4];
        s.channel_stride = args.src.stride[1];
        s.column_stride = args.src.stride[4];
        s.row_offset = offsets;
        s.rows = rows;
        s.column = columns.index;
        s.columns = horizontal_.size;
        s.interior_lo = columns.lo;
        s.interior_hi = columns.hi;
        s.value = padded_ ? static_cast<T>(args.padding_value) : T(0);
        return s;
    }

    // Lanes are `used` tiles of one channel: read in place where they lie inside the image.
    void load_tiles(const ConvArgs& args, const Tile* tiles, int used, std::int64_t channel, T* work, T* scratch,
                    T* spectra) const {
        const T *lane[fft_max_lanes], *base[fft_max_lanes];
        std::int64_t stride[fft_max_lanes], offsets[chunk_rows];
        bool copied[fft_max_lanes];
        int copies = 0;
        for (int l = 0; l < used; ++l) {
            copied[l] = args.src.stride[4] != 1 || !interior(tiles[l]);
            copies += copied[l];
            base[l] = copied[l] ? nullptr : in_place(args, tiles[l], channel);
            stride[l] = copied[l] ? horizontal_.size : args.src.stride[3];
        }
        const int step = copies ? chunk() : vertical_.size;
        const Live live = clear_dead_rows(args, spectra);
        for (int first = live.lo; first < live.hi; first += step) {
            const int rows = std::min(step, live.hi - first);
            for (int l = 0; l < used; ++l) {
                if (!copied[l]) {
                    lane[l] = base[l] + first * stride[l];
                    continue;
                }
                T* const copy = scratch + std::int64_t(l) * chunk() * horizontal_.size;
                strip_.planar(source(args, tiles[l], channel, first, rows, offsets), 1, 1, copy, 0, horizontal_.size, 0);
                lane[l] = copy;
            }
            for (int l = used; l < lanes_; ++l) {  // idle lanes repeat a tile; nothing of theirs is stored
                lane[l] = lane[0];
                stride[l] = stride[0];
            }
            row_.forward(rows_.rows(), lane, stride, rows, work, spectra + std::int64_t(first) * 2 * bins_ * lanes_);
        }
    }

    // Spectra of rows that hold nothing but zeros; the others are left to the caller.
    Live clear_dead_rows(const ConvArgs& args, T* spectra) const {
        if (padded_ && args.padding_value != 0) return {0, vertical_.size};
        const std::int64_t step = 2 * std::int64_t(bins_) * lanes_;
        std::fill(spectra, spectra + live_.lo * step, T(0));
        std::fill(spectra + live_.hi * step, spectra + vertical_.size * step, T(0));
        return live_;
    }

    const T* in_place(const ConvArgs& args, const Tile& t, std::int64_t channel) const {
        return args.src.at<const T>(t.n, channel) + row_map_.first(t.row) * args.src.stride[3] + column_map_.first(t.column);
    }

    FftStore<T> output(const ConvArgs& args) const {
        FftStore<T> s;
        s.epilogue = epilogue_args<T>(desc, args);
        s.dst_row = args.dst.stride[3];
        s.dst_column = args.dst.stride[4];
        s.residual_row = args.residual.stride[3];
        s.residual_column = args.residual.stride[4];
        s.dense_channels = 0;
        s.residual_dense = false;
        for (int l = 0; l < fft_max_lanes; ++l) s.rows[l] = s.columns[l] = 0;
        return s;
    }

    void set_lane(const ConvArgs& args, FftStore<T>& s, int l, const Tile& t, std::int64_t channel) const {
        s.oc[l] = channel;
        s.rows[l] = t.rows;
        s.columns[l] = t.columns;
        s.dst[l] = args.dst.at<T>(t.n, channel) + t.y * s.dst_row + t.x * s.dst_column;
        s.residual[l] = nullptr;
        if (args.residual)
            s.residual[l] = args.residual.at<const T>(t.n, channel) + t.y * s.residual_row + t.x * s.residual_column;
    }

    // Spectra to outputs. `spectra` serves as scratch for tiles that must be computed anew.
    void finish(const ConvArgs& args, const Tile* tiles, int used, T* spectra, T* work, FftStore<T>& s) const {
        row_.inverse(rows_.rows(), spectra, work, s);
        for (int l = 0; l < used; ++l) {
            const int good = s.finite_rows[l], rows = s.rows[l] - good;
            if (rows == 0) continue;
            OutputBox box;
            box.n = tiles[l].n;
            box.oc = s.oc[l];
            box.oh = tiles[l].y + good;
            box.ohs = rows;
            box.ow = tiles[l].x;
            box.ows = s.columns[l];
            BoxStrides strides;
            strides.oh = s.columns[l];
            strides.ow = 1;
            repair<T>(desc, args, box, spectra, strides);
            row_.store(s, l, good, rows, spectra, s.columns[l]);
        }
    }

    void tile_task(const ConvArgs& args, std::int64_t task, T* memory) const {
        const std::int64_t count = args.src.size[0] * tiles_per_image(), chunks = (count + lanes_ - 1) / lanes_;
        const std::int64_t group = task / chunks, first = task % chunks * lanes_;
        const int used = static_cast<int>(std::min<std::int64_t>(lanes_, count - first));
        Tile tiles[fft_max_lanes];
        for (int l = 0; l < used; ++l) tiles[l] = tile(first + l);
        const std::int64_t spectrum = spectrum_elements();
        const std::int64_t icg = desc.icg(), ocg = desc.ocg();
        T* const result = fused_ ? memory : memory + icg * spectrum;
        T *const work = result + spectrum, *const scratch = work + work_elements();
        const T* const filters = static_cast<const T*>(args.packed) + group * ocg * icg * 2 * points_;
        for (std::int64_t c = 0; c < icg; ++c) {
            load_tiles(args, tiles, used, group * icg + c, work, scratch, memory + c * spectrum);
            if (fused_)
                column_.convolve(columns_.passes(), bins_, memory, filters, false);
            else
                column_.forward(columns_.passes(), bins_, memory + c * spectrum);
        }
        for (std::int64_t o = 0; o < ocg; ++o) {
            if (!fused_)
                column_.inverse(columns_.passes(), bins_, static_cast<int>(icg), memory, spectrum,
                                filters + o * icg * 2 * points_, 2 * points_, result);
            FftStore<T> s = output(args);
            for (int l = 0; l < used; ++l) set_lane(args, s, l, tiles[l], group * ocg + o);
            finish(args, tiles, used, result, work, s);
        }
    }

    // Lanes are neighbouring channels, at the same tile. Only for one input and one output per group.
    void channel_task(const ConvArgs& args, std::int64_t task, T* memory) const {
        const std::int64_t count = args.src.size[0] * tiles_per_image(), first = task / count * lanes_;
        const int used = static_cast<int>(std::min<std::int64_t>(lanes_, desc.g - first));
        Tile tiles[fft_max_lanes];
        std::fill(tiles, tiles + used, tile(task % count));
        T *const work = memory + spectrum_elements(), *const slab = work + work_elements();
        const Live live = clear_dead_rows(args, memory);
        for (int y = live.lo; y < live.hi; y += chunk()) {
            const int rows = std::min(chunk(), live.hi - y);
            std::int64_t offsets[chunk_rows];
            strip_.lanes(source(args, tiles[0], first, y, rows, offsets), used, slab);
            row_.forward_lanes(rows_.rows(), slab, rows, memory + std::int64_t(y) * 2 * bins_ * lanes_);
        }
        column_.convolve(columns_.passes(), bins_, memory, static_cast<const T*>(args.packed) + first * 2 * points_, true);
        FftStore<T> s = output(args);
        if (args.dst.stride[1] == 1 && args.dst.stride[4] != 1) s.dense_channels = used;
        s.residual_dense = args.residual.stride[1] == 1;
        for (int l = 0; l < used; ++l) set_lane(args, s, l, tiles[l], first + l);
        finish(args, tiles, used, memory, work, s);
    }

    const RowTransform<T> rows_;
    const Transform<T> columns_;
    const Tiling vertical_, horizontal_;
    const TileMap row_map_, column_map_;
    const Live live_;
    const FftRowKernelsOf<T>& row_;
    const FftColumnKernelsOf<T>& column_;
    const StripKernelsOf<T>& strip_;
    const int lanes_, bins_;
    const std::int64_t points_;  // complex numbers of a spectrum
    const bool lane_channels_, fused_, padded_;
};

}  // namespace

std::unique_ptr<Plan> make_plan(const ConvDesc& d, const Isa& isa, const Params& p) {
    const Algorithm& row = *find_algorithm("fft");
    if (d.src == DType::f32) return std::make_unique<FftPlan<float>>(d, row, isa, p);
    return std::make_unique<FftPlan<double>>(d, row, isa, p);
}

}  // namespace npconv::fft
