// 3x3 kernels on nchw images, stride 1 or 2 on both axes: lanes = neighbouring outputs of one row, R output rows at a
// time, the nine weights in registers (memory operands where there are 16 registers only). Rows come straight from the
// image; padding rows point to a row of zeros and the outer column blocks load under masks that are made once per task.
// With stride 2, two vectors are split into their even and odd elements, taps 1 and 2, and tap 0 is tap 2 shifted by an
// output. What isn't zero padding of an nchw image is read from a padded copy of R output rows' input.
// Zen 4, one core, peak 118 GFLOP/s, AVX-512 (AVX2), R = 7:
//   32x112: 82 (56)   144x56: 72 (56)   192x28: 63 (45)   384x14: 53 (35)   960x7: 26 (26)   96x112 stride 2: 38 (29)
// Small maps leave lanes idle (7 of 16) and pay about 8 ns per channel and step of R rows. Of the nine loads of three input
// rows six cross a cache line. Prefetching the next rows or the output changes nothing: at 37 to 42 GB/s the hardware's
// prefetchers suffice.
#include "algorithms/depthwise/output.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int most_rows = 7;

// Which columns of a block's loads exist: three taps with stride 1; one, L, L with stride 2.
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
    constexpr int L = lanes<T>;
    c.blocks = (c.outputs + L - 1) / L;
    c.inner_lo = least(c.origin >= 0 ? 0 : (-c.origin + S * L - 1) / (S * L), c.blocks);
    // Without masks, S*L + 2 columns are read and L outputs written.
    const std::int64_t fit = c.width - c.origin - S * L - 2;
    c.inner_hi = most(c.inner_lo, least(c.outputs / L, fit < 0 ? 0 : fit / (S * L) + 1));
    for (std::int64_t b = 0; b < c.blocks; ++b)
        for (int k = 0; k < 3; ++k) {
            const std::int64_t x = c.origin + b * S * L + (S == 1 || k < 2 ? k : 1 + L);
            c.masks[b].m[k] = mask_range<T>(bound(-x, L), bound(c.width - x, L));
        }
}

// The three taps of a row for L outputs from column x on.
template <class T, int S, bool Masked>
NPCONV_INLINE void load_taps(const T* p, const BlockMask<T>& mask, Vec<T> (&tap)[3]) {
    constexpr int L = lanes<T>;
    if constexpr (S == 1) {
        NPCONV_UNROLL for (int k = 0; k < 3; ++k) tap[k] = Masked ? load_masked(p + k, mask.m[k]) : load(p + k);
    } else {
        // Columns 1.. hold taps 1 and 2 side by side; tap 0 is tap 2 one output earlier.
        const T* q = p + 1;
        const Vec<T> a = Masked ? load_masked(q, mask.m[1]) : load(q);
        const Vec<T> b = Masked ? load_masked(q + L, mask.m[2]) : load(q + L);
        deinterleave(a, b, tap[1], tap[2]);
        tap[0] = shift_in(tap[2], Masked ? load_masked(p, mask.m[0]) : set1(*p));
    }
}

// R output rows of one output channel.
template <class T> struct Job {
    const T* rows[2 * most_rows + 1];  // column 0 of each input row
    const T* weights;
    T* out;
    std::int64_t out_stride;
    const T* residual;
    std::int64_t residual_row, residual_column;
    std::int64_t oc;
};

template <class T, int S, int R, bool Masked, bool Plain>
NPCONV_INLINE void tile(const Job<T>& job, const Columns<T>& c, std::int64_t block, const Vec<T> (&w)[9],
                        const EpilogueArgs<T>& e, const Simple<T>& simple, Vec<T> scale, Vec<T> bias) {
    constexpr int L = lanes<T>;
    const std::int64_t x = c.origin + block * S * L, n = c.outputs - block * L;
    const BlockMask<T> mask = Masked ? c.masks[block] : BlockMask<T>{};
    Vec<T> acc[R];
    NPCONV_UNROLL for (int r = 0; r < R; ++r) acc[r] = set1(T(0));
    NPCONV_UNROLL for (int i = 0; i < (R - 1) * S + 3; ++i) {
        Vec<T> tap[3];
        load_taps<T, S, Masked>(job.rows[i] + x, mask, tap);
        NPCONV_UNROLL for (int r = 0; r < R; ++r)
            if (i - r * S >= 0 && i - r * S < 3)
                NPCONV_UNROLL for (int k = 0; k < 3; ++k) acc[r] = fma(tap[k], w[(i - r * S) * 3 + k], acc[r]);
    }
    T* out = job.out + block * L;
    if constexpr (Plain) {
        NPCONV_UNROLL for (int r = 0; r < R; ++r) {
            const Vec<T> v = simple(acc[r], scale, bias);
            if constexpr (Masked) store_partial(out + r * job.out_stride, v, n);
            else store(out + r * job.out_stride, v);
        }
    } else {
        T sums[R * L];
        NPCONV_UNROLL for (int r = 0; r < R; ++r) store(sums + r * L, acc[r]);
        NPCONV_NO_UNROLL for (int r = 0; r < R; ++r) {
            Vec<T> residual = set1(T(0));
            if (job.residual)
                residual = load_strided(job.residual + r * job.residual_row + block * L * job.residual_column,
                                        job.residual_column, n);
            const Vec<T> v = finish<T>(e, load(sums + r * L), scale, bias, residual);
            store_partial(out + r * job.out_stride, v, n);
        }
    }
}

template <class T, int S, int R, bool Plain>
NPCONV_NOINLINE void strip_rows(const Job<T>& job, const Columns<T>& c, const EpilogueArgs<T>& e) {
    Vec<T> w[9];
    NPCONV_UNROLL for (int k = 0; k < 9; ++k) w[k] = set1(job.weights[k]);
    const Simple<T> simple(e);
    const Vec<T> scale = channel_scale(e, job.oc), bias = channel_bias(e, job.oc);
    std::int64_t b = 0;
    do {  // masked blocks on the left, the inner ones, masked blocks on the right
        if (Plain && b == c.inner_lo)
            for (; b < c.inner_hi; ++b) tile<T, S, R, false, Plain>(job, c, b, w, e, simple, scale, bias);
        if (b < c.blocks) tile<T, S, R, true, Plain>(job, c, b, w, e, simple, scale, bias);
    } while (++b < c.blocks);
}

// Scratch: a row of zeros or the padded copy of the most rows that one step reads, row offsets, masks.
template <class T> struct Layout {
    std::int64_t row_stride;
    std::size_t offsets_at, masks_at, bytes;
    Layout(const Problem<T>& p, const Task& t) {
        const std::int64_t columns = (t.x1 - t.x0 - 1) * p.sw + 3, blocks = (t.x1 - t.x0 + lanes<T> - 1) / lanes<T>;
        row_stride = round_up(most(columns, p.iw), 16) + 64;
        offsets_at = static_cast<std::size_t>(((most_rows - 1) * p.sh + 3) * row_stride) * sizeof(T);
        masks_at = offsets_at + static_cast<std::size_t>(round_up((t.y1 - t.y0 - 1) * p.sh + 3, 8)) * 8;
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
};

// Rows y.. of channel c, R at a time.
template <class T, int S, int R>
NPCONV_INLINE std::int64_t channel_rows(const Band<T>& band, std::int64_t c, std::int64_t y) {
    constexpr int n_rows = (R - 1) * S + 3;
    const Problem<T>& p = band.p;
    const Task& t = band.t;
    const EpilogueArgs<T>& e = p.epilogue;
    const bool plain = is_simple(e);
    const T* image = p.src + t.n * p.src_stride[0] + c * p.src_stride[1];
    Job<T> job;
    for (; y + R <= t.y1; y += R) {
        const std::int64_t* offset = band.offsets + (y - t.y0) * S;
        if (p.direct) {
            for (int i = 0; i < n_rows; ++i) job.rows[i] = offset[i] == constant_row ? band.rows : image + offset[i];
        } else {
            StripSource<T> source = strip_source(p, t.n, c, t.x0, t.x1);
            source.row_offset = offset;
            source.rows = n_rows;
            p.strip.planar(source, 1, 1, band.rows, 0, band.at.row_stride, 0);
            for (int i = 0; i < n_rows; ++i) job.rows[i] = band.rows + i * band.at.row_stride;
        }
        for (std::int64_t m = 0; m < p.multiplier; ++m) {
            job.oc = c * p.multiplier + m;
            job.weights = p.weights + job.oc * 9;
            job.out = p.dst + t.n * p.dst_stride[0] + job.oc * p.dst_stride[1] + t.d * p.dst_stride[2] +
                      y * p.dst_stride[3] + t.x0;
            job.out_stride = p.dst_stride[3];
            job.residual = e.residual_kind == Residual::none ? nullptr : residual_at(e, t.n, job.oc, t.d, y, t.x0);
            job.residual_row = e.residual_stride[3];
            job.residual_column = e.residual_stride[4];
            if (plain) strip_rows<T, S, R, true>(job, band.columns, e);
            else strip_rows<T, S, R, false>(job, band.columns, e);
        }
    }
    return y;
}

template <class T, int S> void run_stride(const Problem<T>& p, const Task& t) {
    const Layout<T> at(p, t);
    char* scratch = static_cast<char*>(t.scratch);
    Band<T> band{p, t, at, {}, static_cast<T*>(t.scratch), reinterpret_cast<std::int64_t*>(scratch + at.offsets_at)};
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
