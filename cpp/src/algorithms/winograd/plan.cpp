// The fused execution: for a block of tiles, padded rows -> slab [row][column][L channels] -> input transform -> V ->
// points GEMM -> M -> inverse transform -> slab -> epilogue and store. V and M of a block stay in the caches (64
// channels, 14 tiles of F(4x4): 130 KB each); no copy of the image is ever made.
#include <algorithm>
#include <cstring>
#include <vector>

#include "algorithms/algorithm.hpp"
#include "algorithms/repair/repair.hpp"
#include "algorithms/winograd/kernel.hpp"
#include "algorithms/winograd/parts.hpp"
#include "algorithms/winograd/winograd.hpp"
#include "core/pieces.hpp"
#include "gemm/packing.hpp"
#include "gemm/points.hpp"
#include "strip/strip.hpp"
#include "threading/parallel_for.hpp"

namespace npconv {
namespace {

constexpr std::int64_t filter_channels = 128;  // input channels of one packing task

template <class T> class WinogradPlan final : public Plan {
public:
    WinogradPlan(const ConvDesc& d, const Algorithm& a, const Isa& i, const Params& p)
        : Plan(d, a, i, p),
          split_(WinogradParams(p).split),
          grid_(d, WinogradParams(p)),
          lanes_(i.vector_bytes / static_cast<std::int64_t>(sizeof(T))),
          layout_(i, d.src, grid_.units(), winograd_inner(d, lanes_), d.ocg()),
          channel_vectors_((d.icg() + lanes_ - 1) / lanes_),
          rows_(tile_map(d.h(), grid_.tile_rows, grid_.m)),
          columns_(tile_map(d.w(), grid_.tile_cols, grid_.m)),
          kernels_(winograd_kernels(i).of<T>()),
          strip_(strip_kernels(i).of<T>()),
          gemm_(points_kernels(i).of<T>()),
          taps_(WinogradParams(p).taps),
          in_registers_(WinogradParams(p).in_registers(i)),
          taps_run_(winograd_taps_kernels(i).of<T>()),
          packing_(pack_kernels<T>(i)) {
        for (int value = 0; value < grid_.values * grid_.values; ++value)
            values_.push_back(grid_.value(value / grid_.values, value % grid_.values));
    }

    std::size_t packed_bytes() const override {
        return packs_late() ? 0 : static_cast<std::size_t>(desc.g * filter_size()) * sizeof(T);
    }
    void pack(const Tensor& wei, void* packed, int threads) const noexcept override;
    std::size_t workspace_bytes(std::int64_t mb, int threads) const override {
        Workspace w;
        return static_cast<std::size_t>(w.lay_out(*this, nullptr, mb, threads));
    }
    void execute(const ConvArgs& args) const noexcept override;

private:
    // Transformed data of a block, and one worker's scratch memory.
    struct Domain {
        T *v, *m;
    };
    struct Scratch {
        T* slab;
        std::int64_t* row_offset;
        std::uint8_t* nonfinite;
        T *taps, *u, *m;  // of a task that takes channels from the products to the outputs
    };
    struct Workspace {
        Domain domain;
        Scratch scratch;
        std::int64_t domain_bytes, scratch_bytes;
        std::int64_t lay_out(const WinogradPlan& plan, void* memory, std::int64_t mb, int threads);
        Domain domain_of(int worker) const { return {shift(domain.v, worker, domain_bytes), shift(domain.m, worker, domain_bytes)}; }
        Scratch scratch_of(int worker) const {
            return {shift(scratch.slab, worker, scratch_bytes), shift(scratch.row_offset, worker, scratch_bytes),
                    shift(scratch.nonfinite, worker, scratch_bytes), shift(scratch.taps, worker, scratch_bytes),
                    shift(scratch.u, worker, scratch_bytes), shift(scratch.m, worker, scratch_bytes)};
        }
        template <class U> static U* shift(U* p, int worker, std::int64_t bytes) {
            return reinterpret_cast<U*>(reinterpret_cast<char*>(p) + worker * bytes);
        }
    };
    struct Block {
        std::int64_t group, image, images, row, rows, col, cols;  // in tiles
        // Points that the last row, the last column of tiles does without, as it has outputs behind the image (WinogradGrid::spared).
        int spared_rows, spared_cols;

        std::int64_t tiles() const { return images * rows * cols; }
        std::int64_t full_rows() const { return rows - (spared_rows > 0); }
        std::int64_t full_cols() const { return cols - (spared_cols > 0); }
        // Where tiles lie in the transformed domain: first those of the short row, the full ones, those of the short
        // column, the corners. Whatever a point needs is a range.
        std::int64_t place(std::int64_t i, std::int64_t r, std::int64_t c) const {
            if (c < full_cols()) return r < full_rows() ? full_begin() + (i * full_rows() + r) * full_cols() + c : i * full_cols() + c;
            return r < full_rows() ? full_end() + i * full_rows() + r : full_end() + images * full_rows() + i;
        }
        std::int64_t full_begin() const { return spared_rows > 0 ? images * full_cols() : 0; }
        std::int64_t full_end() const { return full_begin() + images * full_rows() * full_cols(); }
        // The tiles that need a point which is the last but `row` and `col` along the axes.
        Point needed(int row, int col) const {
            const bool rows_spare = row < spared_rows, cols_spare = col < spared_cols;
            return {rows_spare ? full_begin() : 0, cols_spare   ? full_end()
                                                   : rows_spare ? full_end() + (spared_cols > 0 ? images * full_rows() : 0)
                                                                : tiles(),
                    0, 0, 0};
        }
    };

    bool shares_blocks(std::int64_t mb, int threads) const { return winograd_shares(desc, grid_, split_, mb, threads); }
    std::int64_t parts_of_block(int threads) const {
        return split_ == 2 ? std::clamp<std::int64_t>(threads, 1, output_tasks()) : 1;
    }
    int workers(std::int64_t mb, int threads) const {
        const std::int64_t tasks = shares_blocks(mb, threads) ? threads : desc.g * grid_.blocks(mb) * parts_of_block(threads);
        return static_cast<int>(std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(tasks, 1)));
    }
    std::int64_t input_vectors() const { return desc.d().kernel * channel_vectors_; }
    // Packed weights of one group, and, where they are taps, of a vector of its output channels.
    std::int64_t filter_size() const { return taps_ ? layout_.oc_vectors * taps_size() : layout_.u_begin(layout_.points()); }
    // A vector of output channels or a panel is a task where a worker takes these from the products to the outputs.
    std::int64_t task_vectors() const { return in_registers_ ? 1 : points_panel; }
    std::int64_t output_tasks() const { return (layout_.oc_vectors + task_vectors() - 1) / task_vectors(); }
    // With taps M holds a task's channels only: what streams through L2 leaves V there.
    std::int64_t m_point(std::int64_t tiles) const {
        return taps_ ? task_vectors() * tiles * lanes_ + layout_.pad : layout_.m_point(tiles);
    }
    std::int64_t made_value() const { return winograd_made_channels * points_panel * lanes_ + layout_.pad; }
    // By the worker that uses them: U that is made, and the taps of one call.
    bool packs_late() const { return taps_ && (!in_registers_ || desc.weights == Weights::fresh); }
    std::int64_t taps_size() const { return desc.icg() * desc.d().kernel * 9 * lanes_; }
    void transform_filter(const Tensor& wei, std::int64_t group, std::int64_t vector, std::int64_t depth, std::int64_t ic,
                          std::int64_t count, T* u, const std::int64_t* where, std::int64_t step) const noexcept;
    void pack_taps(const Tensor& wei, T* packed, int threads) const noexcept;
    void pack_vector(const Tensor& wei, std::int64_t group, std::int64_t vector, T* to) const noexcept {
        packing_.weights(weights_of_group<T>(desc, wei, group), vector * lanes_, lanes_, to);
    }
    Block block(std::int64_t index, std::int64_t mb) const;
    void tell_points(const Block&, Point* points, std::int64_t begin, std::int64_t end) const noexcept;
    void transform_input(const ConvArgs&, const Block&, std::int64_t image, std::int64_t vector, T* v,
                         const Scratch&) const noexcept;
    void multiply(const ConvArgs&, const Block&, const Domain&, std::int64_t point_begin, std::int64_t point_end,
                  std::int64_t panel_begin, std::int64_t panel_end) const noexcept;
    void output_task(const ConvArgs&, const EpilogueArgs<T>&, const Block&, const Domain&, std::int64_t task, const Scratch&) const noexcept;
    void multiply_taps(const ConvArgs&, const Block&, const Domain&, std::int64_t vector, const Scratch&) const noexcept;
    void multiply_made(const ConvArgs&, const Block&, const Domain&, std::int64_t begin, std::int64_t end, const Scratch&) const noexcept;
    void transform_output(const ConvArgs&, const EpilogueArgs<T>&, const Block&, std::int64_t image, std::int64_t vector,
                          const T* m, const Scratch&) const noexcept;
    void repair_row(const ConvArgs&, OutputBox box, std::int64_t tiles, const Scratch&, std::int64_t pitch) const noexcept;
    void store_row(const ConvArgs&, const EpilogueArgs<T>&, const OutputBox&, const T* slab, std::int64_t pitch) const noexcept;
    void execute_blocks(const ConvArgs&, const Workspace&) const noexcept;
    void execute_phases(const ConvArgs&, const Workspace&) const noexcept;

    const int split_;
    const WinogradGrid grid_;
    const std::int64_t lanes_;
    const PointsLayout layout_;
    const std::int64_t channel_vectors_;  // of one group's input
    const AxisMap rows_, columns_;
    const WinogradKernelsOf<T>& kernels_;
    const StripKernelsOf<T>& strip_;
    const PointsRun<T> gemm_;
    const bool taps_;          // packed weights are taps, not U
    const bool in_registers_;  // and multiplied as they are
    const WinogradTapsRun<T> taps_run_;
    const PackKernels<T>& packing_;
    std::vector<WinogradGrid::Value> values_;
};

template <class T>
std::int64_t WinogradPlan<T>::Workspace::lay_out(const WinogradPlan& plan, void* memory, std::int64_t mb, int threads) {
    const WinogradGrid& grid = plan.grid_;
    const std::int64_t L = plan.lanes_, tiles = grid.block_tiles(mb), m = grid.m;
    const std::int64_t in_slab = grid.window(grid.block_rows) * grid.window(grid.block_cols) * L;
    const std::int64_t out_slab = (m * grid.block_cols * m + L) * L;  // stores read whole squares to the right
    const int workers = plan.workers(mb, threads);
    Pieces pieces(memory);
    domain.v = pieces.take<T>(plan.layout_.v_begin(plan.layout_.points(), tiles));
    domain.m = pieces.take<T>(plan.taps_ ? 0 : plan.layout_.points() * plan.m_point(tiles));
    domain_bytes = pieces.used();
    pieces.take<char>(plan.shares_blocks(mb, threads) ? 0 : (workers - 1) * domain_bytes);
    const std::int64_t begin = pieces.used();
    scratch.slab = pieces.take<T>(std::max(in_slab, out_slab));
    scratch.row_offset = pieces.take<std::int64_t>(grid.window(grid.block_rows));
    scratch.nonfinite = pieces.take<std::uint8_t>(grid.block_cols);
    scratch.taps = pieces.take<T>(plan.packs_late() && plan.in_registers_ ? plan.taps_size() : 0);
    scratch.u = pieces.take<T>(plan.taps_ && !plan.in_registers_ ? static_cast<std::int64_t>(plan.values_.size()) * plan.made_value() : 0);
    scratch.m = pieces.take<T>(plan.taps_ ? plan.layout_.points() * plan.m_point(tiles) : 0);
    scratch_bytes = pieces.used() - begin;
    pieces.take<char>((workers - 1) * scratch_bytes);
    return pieces.used();
}

template <class T> void WinogradPlan<T>::pack(const Tensor& wei, void* packed, int threads) const noexcept {
    if (packs_late()) return;
    if (taps_) return pack_taps(wei, static_cast<T*>(packed), threads);
    const std::int64_t pieces = (desc.icg() + filter_channels - 1) / filter_channels, kd = desc.d().kernel;
    const std::int64_t padded = layout_.ic / kd;
    auto task = [&](std::int64_t i, int) {
        const std::int64_t piece = i % pieces, depth = i / pieces % kd, vector = i / (pieces * kd) % layout_.oc_vectors;
        const std::int64_t group = i / (pieces * kd * layout_.oc_vectors), ic = piece * filter_channels;
        const std::int64_t step = layout_.u_step(vector), count = std::min(filter_channels, desc.icg() - ic);
        std::int64_t where[winograd_most_values];
        const std::int64_t first = layout_.u_offset(0, vector, 0);
        for (std::size_t v = 0; v < values_.size(); ++v)
            where[v] = layout_.u_offset(values_[v].point, vector, values_[v].unit * layout_.ic) - first;
        T* u = static_cast<T*>(packed) + group * filter_size() + first + (depth * padded + ic) * step;
        transform_filter(wei, group, vector, depth, ic, count, u, where, step);
        if (ic + count < desc.icg()) return;
        for (std::size_t v = 0; v < values_.size(); ++v)  // channels that only fill up a vector
            for (std::int64_t c = count; c < padded - ic; ++c) std::fill_n(u + where[v] + c * step, lanes_, T(0));
    };
    parallel_for(desc.g * layout_.oc_vectors * kd * pieces, threads, task);
}

template <class T>
void WinogradPlan<T>::transform_filter(const Tensor& wei, std::int64_t group, std::int64_t vector, std::int64_t depth, std::int64_t ic,
                                       std::int64_t count, T* u, const std::int64_t* where, std::int64_t step) const noexcept {
    std::int64_t offset[9];
    for (int t = 0; t < 9; ++t) offset[t] = t / 3 * wei.stride[3] + t % 3 * wei.stride[4];
    const std::int64_t oc = group * desc.ocg() + vector * lanes_, channels = std::min(lanes_, desc.ocg() - vector * lanes_);
    kernels_.filter[grid_.transform()](wei.at<T>(oc, ic) + depth * wei.stride[2], wei.stride[0], wei.stride[1], offset, count, channels, u,
                                       where, step);
}

template <class T> void WinogradPlan<T>::pack_taps(const Tensor& wei, T* packed, int threads) const noexcept {
    parallel_for(desc.g * layout_.oc_vectors, threads, [&](std::int64_t task, int) {
        pack_vector(wei, task / layout_.oc_vectors, task % layout_.oc_vectors, packed + task * taps_size());
    });
}

template <class T> typename WinogradPlan<T>::Block WinogradPlan<T>::block(std::int64_t index, std::int64_t mb) const {
    const std::int64_t images = grid_.images(mb), most = grid_.images_of_block(mb), image_blocks = (images + most - 1) / most;
    Block b;
    b.col = index % grid_.col_blocks * grid_.block_cols;
    index /= grid_.col_blocks;
    b.row = index % grid_.row_blocks * grid_.block_rows;
    index /= grid_.row_blocks;
    b.image = index % image_blocks * most;
    b.group = index / image_blocks;
    b.cols = std::min(grid_.block_cols, grid_.tile_cols - b.col);
    b.rows = std::min(grid_.block_rows, grid_.tile_rows - b.row);
    b.images = std::min(most, images - b.image);
    b.spared_rows = grid_.spared(b.row + b.rows, desc.h().out);
    b.spared_cols = grid_.spared(b.col + b.cols, desc.w().out);
    return b;
}

template <class T>
void WinogradPlan<T>::transform_input(const ConvArgs& args, const Block& b, std::int64_t image, std::int64_t vector, T* v,
                                      const Scratch& scratch) const noexcept {
    const std::int64_t od = desc.d().out, n = (b.image + image) / od, z = (b.image + image) % od;
    const std::int64_t kd = vector / channel_vectors_, c = vector % channel_vectors_ * lanes_;
    const Axis& d = desc.d();
    const std::int64_t depth = map_index(d.mode, z * d.stride + kd * d.dilation - d.pad_begin, d.in);
    const std::int64_t rows = grid_.window(b.rows), row0 = b.row * grid_.step(), col0 = b.col * grid_.step();
    for (std::int64_t r = 0; r < rows; ++r) {
        const std::int32_t h = rows_.index[static_cast<std::size_t>(row0 + r)];
        scratch.row_offset[r] = depth < 0 || h < 0 ? constant_row : depth * args.src.stride[2] + h * args.src.stride[3];
    }
    StripSource<T> s;
    s.image = args.src.at<T>(n, b.group * desc.icg() + c);
    s.channel_stride = args.src.stride[1];
    s.column_stride = args.src.stride[4];
    s.row_offset = scratch.row_offset;
    s.rows = rows;
    s.column = columns_.index.data() + col0;
    s.columns = grid_.window(b.cols);
    s.interior_lo = std::clamp<std::int64_t>(columns_.interior_lo - col0, 0, s.columns);
    s.interior_hi = std::clamp<std::int64_t>(columns_.interior_hi - col0, s.interior_lo, s.columns);
    s.value = static_cast<T>(args.padding_value);
    strip_.lanes(s, std::min(lanes_, desc.icg() - c), scratch.slab);

    const std::int64_t pitch = s.columns * lanes_;
    const auto extend = kernels_.extend[grid_.stride - 1];
    if (b.spared_cols > 1) extend(scratch.slab + b.full_cols() * grid_.step() * lanes_, lanes_, pitch, s.rows);
    if (b.spared_rows > 1) extend(scratch.slab + b.full_rows() * grid_.step() * pitch, pitch, lanes_, s.columns);
    const auto kernel = kernels_.input[grid_.transform()];
    std::int64_t where[winograd_most_values];
    for (std::size_t value = 0; value < values_.size(); ++value)
        where[value] = layout_.v_begin(values_[value].point, b.tiles()) + values_[value].unit * layout_.v_unit(b.tiles());
    for (std::int64_t r = 0; r < b.rows; ++r)
        for (std::int64_t begin = 0, end; begin < b.cols; begin = end) {
            end = begin < b.full_cols() ? b.full_cols() : b.cols;
            kernel(scratch.slab + r * grid_.step() * pitch + begin * grid_.step() * lanes_, pitch, end - begin,
                   v + (vector * b.tiles() + b.place(image, r, begin)) * lanes_, where);
        }
}

template <class T>
void WinogradPlan<T>::multiply(const ConvArgs& args, const Block& b, const Domain& domain, std::int64_t point_begin,
                               std::int64_t point_end, std::int64_t panel_begin, std::int64_t panel_end) const noexcept {
    PointsGemm<T> g;
    g.v = domain.v;
    g.u = static_cast<const T*>(args.packed) + b.group * filter_size();
    g.m = domain.m;
    g.tiles = b.tiles();
    g.m_point = m_point(g.tiles);
    g.oc_vectors = layout_.oc_vectors;
    Point points[winograd_most_points];
    tell_points(b, points, point_begin, point_end);
    g.points = points;
    gemm_(g, point_begin, point_end, panel_begin, panel_end);
}

template <class T>
void WinogradPlan<T>::tell_points(const Block& b, Point* points, std::int64_t begin, std::int64_t end) const noexcept {
    for (std::int64_t p = begin; p < end; ++p) {
        points[p] = b.needed(grid_.points - 1 - p / grid_.points, grid_.points - 1 - p % grid_.points);
        points[p].v = layout_.v_begin(p, b.tiles());
        points[p].u = layout_.u_begin(p);
        points[p].ic = layout_.inner(p);
    }
}

// The outputs of a vector or a panel, with taps their products too.
template <class T>
void WinogradPlan<T>::output_task(const ConvArgs& args, const EpilogueArgs<T>& epilogue, const Block& b, const Domain& domain,
                                  std::int64_t task, const Scratch& scratch) const noexcept {
    const std::int64_t begin = task * task_vectors(), end = std::min(begin + task_vectors(), layout_.oc_vectors);
    if (in_registers_)
        multiply_taps(args, b, domain, begin, scratch);
    else if (taps_)
        multiply_made(args, b, domain, begin, end, scratch);
    for (std::int64_t vector = begin; vector < end; ++vector)
        for (std::int64_t i = 0; i < b.images; ++i) {
            const T* m = taps_ ? scratch.m + (vector - begin) * b.tiles() * lanes_ : domain.m + vector * b.tiles() * lanes_;
            transform_output(args, epilogue, b, i, vector, m, scratch);
        }
}

template <class T>
void WinogradPlan<T>::multiply_taps(const ConvArgs& args, const Block& b, const Domain& domain, std::int64_t vector,
                                    const Scratch& scratch) const noexcept {
    Point points[winograd_most_points];
    tell_points(b, points, 0, layout_.points());
    WinogradTaps<T> g;
    g.points = points;
    g.v = domain.v;
    g.tiles = b.tiles();
    if (packs_late()) pack_vector(args.wei, b.group, vector, scratch.taps);
    g.taps = packs_late() ? scratch.taps : static_cast<const T*>(args.packed) + b.group * filter_size() + vector * taps_size();
    g.channels = desc.icg();
    g.depth = desc.d().kernel;
    g.m_point = m_point(g.tiles);
    g.m = scratch.m;
    taps_run_(g);
}

// U of a panel and of some channels at a time, in L2, right from the caller's weights.
template <class T>
void WinogradPlan<T>::multiply_made(const ConvArgs& args, const Block& b, const Domain& domain, std::int64_t begin, std::int64_t end,
                                    const Scratch& scratch) const noexcept {
    Point points[winograd_most_points];
    tell_points(b, points, 0, layout_.points());
    PointsGemm<T> g;
    g.v = domain.v;
    g.u = scratch.u;
    g.tiles = b.tiles();
    g.m = scratch.m;
    g.m_point = m_point(g.tiles);
    g.oc_vectors = end - begin;
    g.points = points;
    std::int64_t where[winograd_most_values];
    for (std::size_t value = 0; value < values_.size(); ++value) where[value] = static_cast<std::int64_t>(value) * made_value();
    for (std::int64_t z = 0; z < desc.d().kernel; ++z)
        for (std::int64_t c = 0; c < desc.icg(); c += winograd_made_channels) {
            const std::int64_t count = std::min(winograd_made_channels, desc.icg() - c), first = z * channel_vectors_ + c / lanes_;
            for (std::int64_t vector = begin; vector < end; ++vector)
                transform_filter(args.wei, b.group, vector, z, c, count, scratch.u + (vector - begin) * lanes_, where, g.oc_vectors * lanes_);
            for (std::int64_t unit = 0; unit < layout_.units[0]; ++unit) {
                for (std::int64_t p = 0; p < layout_.points(); ++p) points[p].ic = 0;
                for (std::size_t value = 0; value < values_.size(); ++value) {
                    if (values_[value].unit != unit) continue;
                    Point& point = points[values_[value].point];
                    point.v = layout_.v_begin(values_[value].point, g.tiles) + unit * layout_.v_unit(g.tiles) + first * g.tiles * lanes_;
                    point.u = where[value];
                    point.ic = count;
                }
                g.accumulate = z + c + unit > 0;
                gemm_(g, 0, layout_.points(), 0, 1);
            }
        }
}

template <class T>
void WinogradPlan<T>::transform_output(const ConvArgs& args, const EpilogueArgs<T>& epilogue, const Block& b,
                                       std::int64_t image, std::int64_t vector, const T* m,
                                       const Scratch& scratch) const noexcept {
    const auto kernel = kernels_.output[grid_.transform()];
    const std::int64_t from_point = m_point(b.tiles());
    OutputBox box;
    box.n = (b.image + image) / desc.d().out;
    box.od = (b.image + image) % desc.d().out;
    box.oc = b.group * desc.ocg() + vector * lanes_;
    box.ocs = std::min(lanes_, desc.ocg() - vector * lanes_);
    box.ow = b.col * grid_.m;
    box.ows = std::min(b.cols * grid_.m, desc.w().out - box.ow);
    const std::int64_t pitch = box.ows * lanes_;
    for (std::int64_t r = 0; r < b.rows; ++r) {
        box.oh = (b.row + r) * grid_.m;
        box.ohs = std::min<std::int64_t>(grid_.m, desc.h().out - box.oh);
        bool bad = false;  // from the last tile to the first: see kernel.hpp
        for (std::int64_t end = b.cols, begin; end > 0; end = begin) {
            begin = end > b.full_cols() ? b.full_cols() : 0;
            bad |= kernel(m + b.place(image, r, begin) * lanes_, from_point, end - begin,
                          scratch.slab + begin * grid_.m * lanes_, pitch, scratch.nonfinite + begin);
        }
        if (bad) repair_row(args, box, b.cols, scratch, pitch);
        store_row(args, epilogue, box, scratch.slab, pitch);
    }
}

// Recomputes the tiles of a row that are marked, neighbours together.
template <class T>
void WinogradPlan<T>::repair_row(const ConvArgs& args, OutputBox box, std::int64_t tiles, const Scratch& scratch,
                                 std::int64_t pitch) const noexcept {
    const std::int64_t begin = box.ow, end = box.ow + box.ows;
    BoxStrides stride;
    stride.oc = 1;
    stride.oh = pitch;
    stride.ow = lanes_;
    for (std::int64_t t = 0; t < tiles; ++t) {
        if (!scratch.nonfinite[t]) continue;
        std::int64_t last = t;
        while (last + 1 < tiles && scratch.nonfinite[last + 1]) ++last;
        box.ow = begin + t * grid_.m;
        box.ows = std::min(begin + (last + 1) * grid_.m, end) - box.ow;
        repair(desc, args, box, scratch.slab + t * grid_.m * lanes_, stride);
        t = last;
    }
}

template <class T>
void WinogradPlan<T>::store_row(const ConvArgs& args, const EpilogueArgs<T>& epilogue, const OutputBox& box, const T* slab,
                                std::int64_t pitch) const noexcept {
    const WinogradStore<T> s = winograd_store(args, epilogue, box, slab, pitch);
    (desc.dst_order == Order::nhwc ? kernels_.lanes : kernels_.planar)(s);
}

// Blocks by one worker each, or, of split = 2, parts of their output channels, each with an input transform of its own.
template <class T> void WinogradPlan<T>::execute_blocks(const ConvArgs& args, const Workspace& workspace) const noexcept {
    const std::int64_t mb = args.src.size[0], parts = parts_of_block(args.threads);
    const EpilogueArgs<T> epilogue = epilogue_args<T>(desc, args);
    auto part_of_block = [&](std::int64_t index, int worker) {
        const Block b = block(index / parts, mb);
        const std::int64_t part = index % parts, begin = output_tasks() * part / parts, end = output_tasks() * (part + 1) / parts;
        const Domain domain = workspace.domain_of(worker);
        const Scratch scratch = workspace.scratch_of(worker);
        for (std::int64_t c = 0; c < input_vectors(); ++c)
            for (std::int64_t i = 0; i < b.images; ++i) transform_input(args, b, i, c, domain.v, scratch);
        if (!taps_) multiply(args, b, domain, 0, layout_.points(), begin, end);
        for (std::int64_t task = begin; task < end; ++task) output_task(args, epilogue, b, domain, task, scratch);
    };
    parallel_for(desc.g * grid_.blocks(mb) * parts, args.threads, part_of_block);
}

template <class T> void WinogradPlan<T>::execute_phases(const ConvArgs& args, const Workspace& workspace) const noexcept {
    const std::int64_t mb = args.src.size[0], images = grid_.images_of_block(mb);
    const EpilogueArgs<T> epilogue = epilogue_args<T>(desc, args);
    const std::int64_t pieces = winograd_pieces(layout_.points(), layout_.panels, args.threads);
    std::int64_t round = 0;
    auto input = [&](std::int64_t task, int worker) {
        const Block b = block(round, mb);
        if (task % images < b.images)
            transform_input(args, b, task % images, task / images, workspace.domain.v, workspace.scratch_of(worker));
    };
    auto product = [&](std::int64_t task, int) {
        const std::int64_t point = task / pieces, piece = task % pieces;
        multiply(args, block(round, mb), workspace.domain, point, point + 1, layout_.panels * piece / pieces,
                 layout_.panels * (piece + 1) / pieces);
    };
    auto output = [&](std::int64_t task, int worker) {
        const Block b = block(round, mb);
        if (task % images < b.images)
            transform_output(args, epilogue, b, task % images, task / images, workspace.domain.m + task / images * b.tiles() * lanes_,
                             workspace.scratch_of(worker));
    };
    auto late = [&](std::int64_t task, int worker) {
        output_task(args, epilogue, block(round, mb), workspace.domain, task, workspace.scratch_of(worker));
    };
    if (taps_)
        return parallel_phases(args.threads, {{input_vectors() * images, input}, {output_tasks(), late}}, desc.g * grid_.blocks(mb), &round);
    parallel_phases(args.threads,
                    {{input_vectors() * images, input}, {layout_.points() * pieces, product}, {layout_.oc_vectors * images, output}},
                    desc.g * grid_.blocks(mb), &round);
}

template <class T> void WinogradPlan<T>::execute(const ConvArgs& args) const noexcept {
    if (args.src.size[0] <= 0) return;
    Workspace workspace;
    workspace.lay_out(*this, args.workspace, args.src.size[0], args.threads);
    const FlushSubnormals flush(desc.accuracy != Accuracy::strict);
    if (shares_blocks(args.src.size[0], args.threads))
        execute_phases(args, workspace);
    else
        execute_blocks(args, workspace);
}

}  // namespace

extern const Algorithm winograd_algorithm;

std::unique_ptr<Plan> make_winograd_plan(const ConvDesc& d, const Isa& isa, const Params& p) {
    if (WinogradParams(p).few) return make_winograd_few_plan(d, isa, p);
    if (d.src == DType::f64) return std::make_unique<WinogradPlan<double>>(d, winograd_algorithm, isa, p);
    return std::make_unique<WinogradPlan<float>>(d, winograd_algorithm, isa, p);
}

}  // namespace npconv
