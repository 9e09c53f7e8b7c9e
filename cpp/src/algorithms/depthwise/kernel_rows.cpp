// 3x3 kernels on nchw images, stride 1 or 2 on both axes: lanes = neighbouring outputs of one row, R output rows at a
// time, the nine weights in registers (memory operands where there are 16 registers only). Rows come straight from the
// image; padding rows point to a row of zeros and the outer column blocks load under masks that are made once per task.
// What isn't zero padding of an nchw image is read from a padded copy of R output rows' input.
// Percent of the FMA peak on one Zen 4 core (118 GFLOP/s), AVX-512 (AVX2), R = 7 or 4, whichever is faster:
//   stride 1: 32x112 77 (62), 144x56 68 (61), 192x28 60 (47), 384x14 45 (35), 960x7 22 (23)
//   stride 2: 96x112 46 (34), 144x56 47 (35), 192x28 38 (27), 576x14 17 (18)
// Wide maps of stride 1 wait for L2 or L3 and for loads: of the nine of three input rows six cross a cache line. Small maps
// leave lanes idle (7 of 16) and pay about 8 ns per channel and step of R rows. Stride 2 waits for L2 or L3: 88 of the 100
// microseconds that 96x112 takes are needed to read and write the images at all. Where the image does not begin at a cache
// line (large NumPy arrays begin 16 bytes behind one) every load crosses one: up to 15 % longer. Prefetching the next rows
// or the output changes nothing.
#include "algorithms/depthwise/output.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int most_rows = 7;

// Which columns of a block's loads exist: of three taps with stride 1, of twice L columns with stride 2.
template <class T> struct BlockMask {
    Mask<T> m[3];
};

// How a task's columns fall into blocks of L outputs: [inner_lo, inner_hi) load without masks.
template <class T> struct Columns {
    std::int64_t origin, width;  // column of tap 0 of the first output; columns that exist
    std::int64_t blocks, inner_lo, inner_hi, outputs;
    BlockMask<T>* masks;
};

NPCONV_INLINE int bound(std::int64_t i, int most_lanes) { return i < 0 ? 0 : i > most_lanes ? most_lanes : int(i); }

template <class T, int S> void make_columns(Columns<T>& c) {
    constexpr int L = lanes<T>, loads = S == 1 ? 3 : 2, first = S - 1, step = S == 1 ? 1 : L, last = first + (loads - 1) * step + L - 1;
    const std::int64_t before = -c.origin - first;  // columns that block 0 reads before the first one
    c.blocks = (c.outputs + L - 1) / L;
    c.inner_lo = least(before <= 0 ? 0 : (before + S * L - 1) / (S * L), c.blocks);
    const std::int64_t fit = c.width - c.origin - last - 1;
    c.inner_hi = most(c.inner_lo, least(c.outputs / L, fit < 0 ? 0 : fit / (S * L) + 1));
    for (std::int64_t b = 0; b < c.blocks; ++b)
        for (int k = 0; k < loads; ++k) {
            const std::int64_t x = c.origin + b * S * L + first + k * step;
            c.masks[b].m[k] = mask_range<T>(bound(-x, L), bound(c.width - x, L));
        }
}

// Steps of R output rows of one output channel.
template <class T> struct Job {
    const T* const* rows;  // column 0 of each input row
    std::int64_t steps;
    const T* weights;
    T* out;
    std::int64_t out_stride;
    const T* residual;
    std::int64_t residual_row, residual_column;
    std::int64_t oc;
};

// What is left to do with sums that began with the bias: nothing, a clamp; or the whole epilogue, of sums without it.
enum class Finish { none, clamp, all };

template <class T> struct Channel {
    Vec<T> w[9], first;  // weights; what sums begin with
    Vec<T> scale, bias;
    Simple<T> simple;
};

// Sums of R rows of L outputs from column x on. The three taps of a row are loads at neighbouring columns.
template <class T, int R, bool Masked>
NPCONV_INLINE void sums(const T* const* rows, std::int64_t x, const BlockMask<T>& mask, const Channel<T>& channel, Vec<T> (&acc)[R]) {
    NPCONV_UNROLL for (int i = 0; i < R + 2; ++i) {
        const T* p = rows[i] + x;
        Vec<T> tap[3];
        NPCONV_UNROLL for (int k = 0; k < 3; ++k) tap[k] = Masked ? load_masked(p + k, mask.m[k]) : load(p + k);
        NPCONV_UNROLL for (int r = 0; r < R; ++r) {
            const int row = i - r;
            if (row < 0 || row > 2) continue;
            NPCONV_UNROLL for (int k = 0; k < 3; ++k)
                acc[r] = fma(tap[k], channel.w[row * 3 + k], row == 0 && k == 0 ? channel.first : acc[r]);
        }
    }
}

// With stride 2, two loads hold taps 1 and 2 of L outputs; tap 0 is tap 2 of the output before. Its products are therefore
// summed apart and moved by an output once per row of outputs, not of inputs, as the order of the lanes is put right.
// `carry` hands the last of these sums on to the next block.
template <class T, int R, bool Masked>
NPCONV_INLINE void sums_of_second(const T* const* rows, std::int64_t x, const BlockMask<T>& mask, const Channel<T>& channel, T* carry,
                                  Vec<T> (&acc)[R]) {
    constexpr int L = lanes<T>;
    Vec<T> moved[R];
    NPCONV_UNROLL for (int i = 0; i < 2 * R + 1; ++i) {
        const T* p = rows[i] + x + 1;
        const Vec<T> a = Masked ? load_masked(p, mask.m[0]) : load(p), b = Masked ? load_masked(p + L, mask.m[1]) : load(p + L);
        Vec<T> even, odd;
        part(a, b, even, odd);
        NPCONV_UNROLL for (int r = 0; r < R; ++r) {
            const int row = i - 2 * r;
            if (row < 0 || row > 2) continue;
            const Vec<T>* w = channel.w + row * 3;
            moved[r] = row == 0 ? mul(odd, w[0]) : fma(odd, w[0], moved[r]);
            acc[r] = fma(odd, w[2], fma(even, w[1], row == 0 ? channel.first : acc[r]));
        }
    }
    NPCONV_UNROLL for (int r = 0; r < R; ++r) {
        const Vec<T> m = line_up(moved[r]);
        acc[r] = add(line_up(acc[r]), shift_in(m, load(carry + r * L)));
        store(carry + r * L, m);
    }
}

// What tap 0 of the first output adds: the column before the first block's.
template <class T, int R>
NPCONV_INLINE void first_carry(const T* const* rows, const Columns<T>& c, const Channel<T>& channel, T* carry) {
    const bool exists = c.origin >= 0 && c.origin < c.width;
    NPCONV_UNROLL for (int r = 0; r < R; ++r) {
        Vec<T> m = set1(T(0));
        NPCONV_UNROLL for (int row = 0; row < 3; ++row) {
            const Vec<T> value = set1(exists ? rows[2 * r + row][c.origin] : T(0));
            m = row == 0 ? mul(value, channel.w[0]) : fma(value, channel.w[row * 3], m);
        }
        store(carry + r * lanes<T>, m);
    }
}

template <class T, int S, int R, bool Masked, Finish F>
NPCONV_INLINE void tile(const Job<T>& job, const T* const* rows, T* out, const T* residual, const Columns<T>& c, std::int64_t block,
                        const EpilogueArgs<T>& e, const Channel<T>& channel, [[maybe_unused]] T* carry) {
    constexpr int L = lanes<T>;
    const std::int64_t x = c.origin + block * S * L, n = c.outputs - block * L;
    const BlockMask<T> mask = Masked ? c.masks[block] : BlockMask<T>{};
    Vec<T> acc[R];
    if constexpr (S == 1) sums<T, R, Masked>(rows, x, mask, channel, acc);
    else sums_of_second<T, R, Masked>(rows, x, mask, channel, carry, acc);
    out += block * L;
    if constexpr (F != Finish::all) {
        NPCONV_UNROLL for (int r = 0; r < R; ++r) {
            const Vec<T> v = F == Finish::clamp ? channel.simple.clamp(acc[r]) : acc[r];
            if constexpr (Masked) store_partial(out + r * job.out_stride, v, n);
            else store(out + r * job.out_stride, v);
        }
    } else {
        T sums[R * L];
        NPCONV_UNROLL for (int r = 0; r < R; ++r) store(sums + r * L, acc[r]);
        NPCONV_NO_UNROLL for (int r = 0; r < R; ++r) {
            Vec<T> other = set1(T(0));
            if (residual)
                other = load_strided(residual + r * job.residual_row + block * L * job.residual_column, job.residual_column, n);
            store_partial(out + r * job.out_stride, finish<T>(e, load(sums + r * L), channel.scale, channel.bias, other), n);
        }
    }
}

template <class T, int S, int R, Finish F>
NPCONV_NOINLINE void strip_rows(const Job<T>& job, const Columns<T>& c, const EpilogueArgs<T>& e) {
    Channel<T> channel{{}, {}, channel_scale(e, job.oc), channel_bias(e, job.oc), Simple<T>(e)};
    NPCONV_UNROLL for (int k = 0; k < 9; ++k) channel.w[k] = set1(job.weights[k]);
    channel.first = F == Finish::all ? set1(T(0)) : channel.bias;
    const T* const* rows = job.rows;
    T* out = job.out;
    const T* residual = job.residual;
    alignas(64) T carry[S == 2 ? R * lanes<T> : 1];
    for (std::int64_t step = 0; step < job.steps; ++step, rows += R * S, out += R * job.out_stride) {
        if constexpr (S == 2) first_carry<T, R>(rows, c, channel, carry);
        std::int64_t b = 0;
        do {  // masked blocks on the left, the inner ones, masked blocks on the right
            if (F != Finish::all && b == c.inner_lo)
                for (; b < c.inner_hi; ++b) tile<T, S, R, false, F>(job, rows, out, residual, c, b, e, channel, carry);
            if (b < c.blocks) tile<T, S, R, true, F>(job, rows, out, residual, c, b, e, channel, carry);
        } while (++b < c.blocks);
        if (residual) residual += R * job.residual_row;
    }
}

template <class T, int S, int R> NPCONV_INLINE void strip_rows_of(const Job<T>& job, const Columns<T>& c, const EpilogueArgs<T>& e) {
    if (!is_simple(e) || e.scale) return strip_rows<T, S, R, Finish::all>(job, c, e);
    if (e.activation == Activation::none) return strip_rows<T, S, R, Finish::none>(job, c, e);
    strip_rows<T, S, R, Finish::clamp>(job, c, e);
}

// Scratch: a row of zeros or the padded copy of the most rows that one step reads; for all rows of a task their offsets and
// where they are; masks.
template <class T> struct Layout {
    std::int64_t row_stride;
    std::size_t offsets_at, pointers_at, masks_at, bytes;
    Layout(const Problem<T>& p, const Task& t) {
        const std::int64_t columns = (t.x1 - t.x0 - 1) * p.sw + 3, blocks = (t.x1 - t.x0 + lanes<T> - 1) / lanes<T>;
        const std::size_t rows = static_cast<std::size_t>(round_up((t.y1 - t.y0 - 1) * p.sh + 3, 8));
        row_stride = round_up(most(columns, p.iw), 16) + 64;
        offsets_at = static_cast<std::size_t>(((most_rows - 1) * p.sh + 3) * row_stride) * sizeof(T);
        pointers_at = offsets_at + rows * sizeof(std::int64_t);
        masks_at = pointers_at + rows * sizeof(const T*);
        bytes = masks_at + static_cast<std::size_t>(blocks) * sizeof(BlockMask<T>);
    }
};

template <class T> struct Band {
    const Problem<T>& p;
    const Task& t;
    const Layout<T>& at;
    Columns<T> columns;
    T* rows;                // zeros, or the padded copy
    std::int64_t* offsets;  // of the task's input rows
    const T** pointers;
};

// `steps` steps of R rows from y on, for all outputs of channel c; pointers[0] is the first input row.
template <class T, int S, int R>
NPCONV_INLINE void channel_steps(const Band<T>& band, std::int64_t c, std::int64_t y, std::int64_t steps, const T* const* pointers) {
    const Problem<T>& p = band.p;
    const Task& t = band.t;
    const EpilogueArgs<T>& e = p.epilogue;
    Job<T> job;
    job.rows = pointers;
    job.steps = steps;
    for (std::int64_t m = 0; m < p.multiplier; ++m) {
        job.oc = c * p.multiplier + m;
        job.weights = p.weights + job.oc * 9;
        job.out = p.dst + t.n * p.dst_stride[0] + job.oc * p.dst_stride[1] + t.d * p.dst_stride[2] + y * p.dst_stride[3] + t.x0;
        job.out_stride = p.dst_stride[3];
        job.residual = e.residual_kind == Residual::none ? nullptr : residual_at(e, t.n, job.oc, t.d, y, t.x0);
        job.residual_row = e.residual_stride[3];
        job.residual_column = e.residual_stride[4];
        strip_rows_of<T, S, R>(job, band.columns, e);
    }
}

// Rows y.. of channel c, R at a time, as many as there are.
template <class T, int S, int R>
NPCONV_INLINE std::int64_t channel_rows(const Band<T>& band, std::int64_t c, std::int64_t y) {
    constexpr int n_rows = (R - 1) * S + 3;
    const Problem<T>& p = band.p;
    const Task& t = band.t;
    if (p.direct) {
        const std::int64_t steps = (t.y1 - y) / R;
        if (steps > 0) channel_steps<T, S, R>(band, c, y, steps, band.pointers + (y - t.y0) * S);
        return y + steps * R;
    }
    for (; y + R <= t.y1; y += R) {
        StripSource<T> source = strip_source(p, t.n, c, t.x0, t.x1);
        source.row_offset = band.offsets + (y - t.y0) * S;
        source.rows = n_rows;
        p.strip.planar(source, 1, 1, band.rows, 0, band.at.row_stride, 0);
        for (int i = 0; i < n_rows; ++i) band.pointers[i] = band.rows + i * band.at.row_stride;
        channel_steps<T, S, R>(band, c, y, 1, band.pointers);
    }
    return y;
}

template <class T, int S> void run_stride(const Problem<T>& p, const Task& t) {
    const Layout<T> at(p, t);
    char* scratch = static_cast<char*>(t.scratch);
    Band<T> band{p, t, at, {}, static_cast<T*>(t.scratch), reinterpret_cast<std::int64_t*>(scratch + at.offsets_at),
                 reinterpret_cast<const T**>(scratch + at.pointers_at)};
    Columns<T>& c = band.columns;
    c.outputs = t.x1 - t.x0;
    c.masks = reinterpret_cast<BlockMask<T>*>(scratch + at.masks_at);
    if (p.direct) {
        // Where position 0 lies in the image; the map itself has no negative indices.
        c.origin = t.x0 * S - p.interior_lo + p.w_map[p.interior_lo];
        c.width = p.iw;
        for (std::int64_t i = 0; i < at.row_stride; i += lanes<T>) store(band.rows + i, set1(T(0)));
    } else {
        c.origin = 0;
        c.width = at.row_stride;  // beyond the padded columns only lanes that aren't stored
    }
    make_columns<T, S>(c);
    const std::int64_t n_rows = (t.y1 - t.y0 - 1) * S + 3;
    for (std::int64_t i = 0; i < n_rows; ++i) band.offsets[i] = row_offset(p, t.d * p.sd, t.y0 * S + i);
    for (std::int64_t channel = t.c; channel < t.c + t.channels; ++channel) {
        std::int64_t y = t.y0;
        const T* image = p.src + t.n * p.src_stride[0] + channel * p.src_stride[1];
        if (p.direct)
            for (std::int64_t i = 0; i < n_rows; ++i)
                band.pointers[i] = band.offsets[i] == constant_row ? band.rows : image + band.offsets[i];
        if constexpr (most_rows >= 7)
            if (p.rows >= 7) y = channel_rows<T, S, 7>(band, channel, y);
        y = channel_rows<T, S, 4>(band, channel, y);
        y = channel_rows<T, S, 2>(band, channel, y);
        channel_rows<T, S, 1>(band, channel, y);
    }
}

template <class T> void run(const Problem<T>& p, const Task& t) {
    if (p.sw == 1) run_stride<T, 1>(p, t);
    else run_stride<T, 2>(p, t);
}

template <class T> std::size_t scratch(const Problem<T>& p, const Task& t) { return Layout<T>(p, t).bytes; }

}  // namespace

extern const depthwise::Kernels depthwise_rows_kernels = {{run<float>, scratch<float>, pack_taps<float>},
                                                          {run<double>, scratch<double>, pack_taps<double>}};

}  // namespace npconv::NPCONV_THIS_ISA
