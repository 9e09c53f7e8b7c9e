// Any kernel, stride and dilation over a padded planar strip of one channel: lanes = neighbouring outputs, R rows x NV
// vectors of accumulators (8x3, 4x4, 2x6, 1x8; with 16 registers 4x2, 2x4, 1x8). An input vector is loaded once for all
// rows that it meets (output rows dilation_h apart, so that input row i of the block is kernel row i - r of output row r);
// the triangles at the first and last R - 1 input rows are unrolled by the number of rows that they meet: no
// multiplication by a zero that stands for "outside", which would turn Inf into NaN. Horizontal stride: the strip keeps
// every stride-th column together. For few channels and large kernels; narrow maps of many channels belong to lanes.
// Zen 4, one core, peak 118 GFLOP/s, AVX-512, one channel of 512x512: k5 68, k7 80, k15 98; 64x56 k15: 87; a line of
// 65536 with 101 taps: 62 (one row: nothing is shared, every FMA loads, two thirds of the loads cross a cache line).
#include "algorithms/depthwise/output.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

template <class T> struct Sum {
    const T* strip;         // kernel row 0 of output row 0, column 0
    std::int64_t row;       // from kernel row to kernel row
    std::int64_t slice;     // from kernel slice to kernel slice
    const std::int64_t* tap;  // column offset of each tap
    const T* weights;
    std::int64_t kd, kh, kw;
};

// Accumulators and, for more than block_terms terms, the two levels that finished blocks are added to.
template <class T, int R, int NV, bool Blocks> struct Totals {
    T level[2][Blocks ? R * NV * lanes<T> : 1] = {};
    std::int64_t blocks[R] = {};
};

template <class T, int R, int NV, bool Blocks>
NPCONV_INLINE void end_block(Vec<T> (&acc)[R][NV], Totals<T, R, NV, Blocks>& totals, int r) {
    constexpr int L = lanes<T>;
    const bool up = ++totals.blocks[r] % block_blocks == 0;
    NPCONV_UNROLL for (int v = 0; v < NV; ++v) {
        T* t = totals.level[0] + (r * NV + v) * L;
        store(t, add(load(t), acc[r][v]));
        acc[r][v] = set1(T(0));
        if (up) {
            T* u = totals.level[1] + (r * NV + v) * L;
            store(u, add(load(u), load(t)));
            store(t, set1(T(0)));
        }
    }
}

// Input row i (in kernel rows) for the output rows R0 <= r <= R1: kernel row i - r.
template <class T, int R, int NV, bool Blocks, int R0, int R1>
NPCONV_INLINE void input_row(const Sum<T>& s, std::int64_t d, std::int64_t i, Vec<T> (&acc)[R][NV],
                             Totals<T, R, NV, Blocks>& totals) {
    constexpr int L = lanes<T>;
    const T* p = s.strip + d * s.slice + i * s.row;
    const T* w = s.weights + (d * s.kh + i - R0) * s.kw;
    const std::int64_t rows_per_block = most(1, block_terms / s.kw);
    for (std::int64_t k0 = 0; k0 < s.kw; k0 += block_terms) {
        const std::int64_t k1 = Blocks ? least(s.kw, k0 + block_terms) : s.kw;
        if constexpr (Blocks) {
            NPCONV_UNROLL for (int r = R0; r <= R1; ++r) {
                const std::int64_t q = d * s.kh + i - r;
                if (q + k0 > 0 && (k0 > 0 || q % rows_per_block == 0)) end_block(acc, totals, r);
            }
        }
        NPCONV_NO_UNROLL for (std::int64_t k = k0; k < k1; ++k) {
            const T* q = p + s.tap[k];
            Vec<T> x[NV];
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) x[v] = load(q + v * L);
            NPCONV_UNROLL for (int r = R0; r <= R1; ++r) {
                const Vec<T> b = set1(w[k - (r - R0) * s.kw]);
                NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] = fma(x[v], b, acc[r][v]);
            }
        }
        if (!Blocks) break;
    }
}

template <class T, int R, int NV, bool Blocks, int I>
NPCONV_INLINE void first_rows(const Sum<T>& s, std::int64_t d, Vec<T> (&acc)[R][NV], Totals<T, R, NV, Blocks>& totals) {
    if constexpr (I < R - 1) {
        input_row<T, R, NV, Blocks, 0, I>(s, d, I, acc, totals);
        first_rows<T, R, NV, Blocks, I + 1>(s, d, acc, totals);
    }
}
template <class T, int R, int NV, bool Blocks, int I>
NPCONV_INLINE void last_rows(const Sum<T>& s, std::int64_t d, Vec<T> (&acc)[R][NV], Totals<T, R, NV, Blocks>& totals) {
    if constexpr (I < R - 1) {
        input_row<T, R, NV, Blocks, I + 1, R - 1>(s, d, s.kh + I, acc, totals);
        last_rows<T, R, NV, Blocks, I + 1>(s, d, acc, totals);
    }
}

// Where a tile's outputs go.
template <class T> struct Target {
    T* out;
    std::int64_t row, n;  // distance of output rows, outputs per row
    const T* residual;
    std::int64_t residual_row, residual_column;
    std::int64_t oc;
};

// kh >= R.
template <class T, int R, int NV, bool Blocks>
NPCONV_NOINLINE void tile(const Sum<T>& s, const EpilogueArgs<T>& e, const Target<T>& to) {
    constexpr int L = lanes<T>;
    Vec<T> acc[R][NV];
    Totals<T, R, NV, Blocks> totals;
    NPCONV_UNROLL for (int r = 0; r < R; ++r)
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] = set1(T(0));
    for (std::int64_t d = 0; d < s.kd; ++d) {
        first_rows<T, R, NV, Blocks, 0>(s, d, acc, totals);
        NPCONV_NO_UNROLL for (std::int64_t i = R - 1; i < s.kh; ++i)
            input_row<T, R, NV, Blocks, 0, R - 1>(s, d, i, acc, totals);
        last_rows<T, R, NV, Blocks, 0>(s, d, acc, totals);
    }
    T sums[R * NV * L];
    NPCONV_UNROLL for (int r = 0; r < R; ++r)
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) {
            const int at = (r * NV + v) * L;
            if constexpr (Blocks)
                acc[r][v] = add(load(totals.level[1] + at), add(load(totals.level[0] + at), acc[r][v]));
            store(sums + at, acc[r][v]);
        }
    const Vec<T> scale = channel_scale(e, to.oc), bias = channel_bias(e, to.oc);
    const Simple<T> simple(e);
    const bool plain = is_simple(e);
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < NV && v * L < to.n; ++v) {
            Vec<T> y = load(sums + (r * NV + v) * L);
            if (plain) {
                y = simple(y, scale, bias);
            } else {
                Vec<T> residual = set1(T(0));
                if (to.residual)
                    residual = load_strided(to.residual + r * to.residual_row + v * L * to.residual_column,
                                            to.residual_column, to.n - v * L);
                y = finish<T>(e, y, scale, bias, residual);
            }
            store_partial(to.out + r * to.row + v * L, y, to.n - v * L);
        }
}

template <class T, bool Blocks>
NPCONV_INLINE void tile_of(std::int64_t rows, std::int64_t vectors, const Sum<T>& s, const EpilogueArgs<T>& e,
                           const Target<T>& to) {
    if constexpr (registers >= 32) {
        if (rows == 8) {
            if (vectors == 1) return tile<T, 8, 1, Blocks>(s, e, to);
            if (vectors == 2) return tile<T, 8, 2, Blocks>(s, e, to);
            return tile<T, 8, 3, Blocks>(s, e, to);
        }
        if (rows == 4) {
            if (vectors <= 2) return tile<T, 4, 2, Blocks>(s, e, to);
            return tile<T, 4, 4, Blocks>(s, e, to);
        }
        if (rows == 2) return vectors <= 2 ? tile<T, 2, 2, Blocks>(s, e, to) : tile<T, 2, 6, Blocks>(s, e, to);
        if (vectors <= 4) return vectors <= 1 ? tile<T, 1, 1, Blocks>(s, e, to) : tile<T, 1, 4, Blocks>(s, e, to);
        return tile<T, 1, 8, Blocks>(s, e, to);
    } else {
        if (rows >= 4) return vectors == 1 ? tile<T, 4, 1, Blocks>(s, e, to) : tile<T, 4, 2, Blocks>(s, e, to);
        if (rows == 2) return vectors <= 2 ? tile<T, 2, 2, Blocks>(s, e, to) : tile<T, 2, 4, Blocks>(s, e, to);
        if (vectors <= 4) return vectors <= 1 ? tile<T, 1, 1, Blocks>(s, e, to) : tile<T, 1, 4, Blocks>(s, e, to);
        return tile<T, 1, 8, Blocks>(s, e, to);
    }
}
// The widest tile of `rows` rows.
NPCONV_INLINE std::int64_t vectors_of(std::int64_t rows) {
    if (registers >= 32) return rows == 8 ? 3 : rows == 4 ? 4 : rows == 2 ? 6 : 8;
    return rows >= 4 ? 2 : rows == 2 ? 4 : 8;
}
constexpr std::int64_t most_vectors = 8;

// Scratch: tap offsets, row offsets, the strip with slack behind each row for full vectors.
template <class T> struct Layout {
    std::int64_t columns, n_rows, phase, row, slice;
    std::size_t offsets_at, strip_at, bytes;
    Layout(const Problem<T>& p, const Task& t) {
        columns = (t.x1 - t.x0 - 1) * p.sw + extent(p.kw, p.dw);
        n_rows = (t.y1 - t.y0 - 1) * p.sh + extent(p.kh, p.dh);
        phase = round_up((columns + p.sw - 1) / p.sw, 16) + most_vectors * lanes<T>;
        row = p.sw * phase;
        slice = n_rows * row;
        offsets_at = static_cast<std::size_t>(p.kw) * sizeof(std::int64_t);
        strip_at = static_cast<std::size_t>(
            round_up(std::int64_t(offsets_at) + n_rows * std::int64_t(sizeof(std::int64_t)), 64));
        bytes = strip_at + static_cast<std::size_t>(p.kd * slice) * sizeof(T);
    }
};

template <class T> struct Band {
    const Problem<T>& p;
    const Task& t;
    const Layout<T>& at;
    const std::int64_t* tap;
    const T* strip;

    // `rows` output rows y, y + step, ... of output channel oc.
    void rows(std::int64_t oc, std::int64_t y, std::int64_t rows, std::int64_t step) const {
        constexpr int L = lanes<T>;
        const EpilogueArgs<T>& e = p.epilogue;
        const std::int64_t taps = p.kd * p.kh * p.kw, width = vectors_of(rows) * L;
        for (std::int64_t x = t.x0; x < t.x1; x += width) {
            const std::int64_t n = least(width, t.x1 - x);
            const Sum<T> s{strip + (y - t.y0) * p.sh * at.row + (x - t.x0), p.dh * at.row, at.slice, tap,
                           p.weights + oc * taps, p.kd, p.kh, p.kw};
            T* out = p.dst + t.n * p.dst_stride[0] + oc * p.dst_stride[1] + t.d * p.dst_stride[2] +
                     y * p.dst_stride[3] + x;
            const T* residual = e.residual_kind == Residual::none ? nullptr : residual_at(e, t.n, oc, t.d, y, x);
            const Target<T> to{out, step * p.dst_stride[3], n, residual, step * e.residual_stride[3],
                               e.residual_stride[4], oc};
            const std::int64_t vectors = (n + L - 1) / L;
            if (taps > block_terms) tile_of<T, true>(rows, vectors, s, e, to);
            else tile_of<T, false>(rows, vectors, s, e, to);
        }
    }

    // Rows y, y + step, ... below y1 in blocks of 8, 4, 2, 1.
    void column_of_rows(std::int64_t oc, std::int64_t y, std::int64_t step, std::int64_t at_most) const {
        for (std::int64_t r = 8; r >= 1; r /= 2) {
            if (r > at_most) continue;
            for (; y + (r - 1) * step < t.y1; y += r * step) rows(oc, y, r, step);
        }
    }
};

template <class T> void run(const Problem<T>& p, const Task& t) {
    const Layout<T> at(p, t);
    char* scratch = static_cast<char*>(t.scratch);
    std::int64_t* tap = reinterpret_cast<std::int64_t*>(scratch);
    std::int64_t* offset = reinterpret_cast<std::int64_t*>(scratch + at.offsets_at);
    T* strip = reinterpret_cast<T*>(scratch + at.strip_at);
    for (std::int64_t k = 0; k < p.kw; ++k) tap[k] = k * p.dw % p.sw * at.phase + k * p.dw / p.sw;
    const Band<T> band{p, t, at, tap, strip};
    // Rows share input rows only with vertical stride 1, then `dh` apart.
    const std::int64_t step = p.sh == 1 ? p.dh : 1;
    const std::int64_t at_most = p.sh == 1 ? least(least(p.rows, p.kh), registers >= 32 ? 8 : 4) : 1;
    for (std::int64_t c = t.c; c < t.c + t.channels; ++c) {
        StripSource<T> source = strip_source(p, t.n, c, t.x0, t.x1);
        source.row_offset = offset;
        source.rows = at.n_rows;
        for (std::int64_t d = 0; d < p.kd; ++d) {
            for (std::int64_t i = 0; i < at.n_rows; ++i)
                offset[i] = row_offset(p, t.d * p.sd + d * p.dd, t.y0 * p.sh + i);
            p.strip.planar(source, 1, static_cast<int>(p.sw), strip + d * at.slice, 0, at.row, at.phase);
        }
        for (std::int64_t m = 0; m < p.multiplier; ++m)
            for (std::int64_t y = t.y0; y < least(t.y0 + step, t.y1); ++y)
                band.column_of_rows(c * p.multiplier + m, y, step, at_most);
    }
}

template <class T> std::size_t scratch(const Problem<T>& p, const Task& t) { return Layout<T>(p, t).bytes; }

}  // namespace

extern const depthwise::Kernels depthwise_planar_kernels = {{run<float>, scratch<float>, pack_taps<float>},
                                                            {run<double>, scratch<double>, pack_taps<double>}};

}  // namespace npconv::NPCONV_THIS_ISA
