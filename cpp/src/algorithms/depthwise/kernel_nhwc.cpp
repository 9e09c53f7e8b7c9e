// Lanes = neighbouring channels, from nhwc pixels to nhwc pixels, one output per channel. A tile of a few output pixels meets all
// channels, one vector of them after the other, before the next tile: what is read and written are whole lines, in
// the order of memory, and a border is looked up once for all channels. Whole output rows of one vector (as in
// kernel_lanes.cpp) read lines piece by piece, each twice with 16 registers: 1.3 to 2.1 times as long (harness on Zen 3, layers of
// MobileNetV2; the row of 96x112 is larger than L1).
//
// Kernels of width 3 take four pixels at a time (7 or 8 are up to a fifth slower), with stride 1 of two output rows, from four rows
// of the image: 42 loads for 72 FMAs, taps included. Two of its eight sums wait on the stack for their end: storing them before the last
// row leaves no vector there and is 4 to 10 % slower. Wider kernels take seven pixels: 7 sums, up to 7 taps and a column are 15
// registers.
#include "algorithms/depthwise/output.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// Pixels of a tile.
template <int K> constexpr int tile_pixels = K == 3 ? 4 : 7;

// One output row, or two. Source columns are those of `map`, which has the first of the first output; at positions in [lo, hi)
// they are neighbours.
template <class T> struct Job {
    const Problem<T>& p;
    const Task& t;
    const T* padding;       // a pixel of padding values
    const T** table;        // where the columns of a tile at the border are
    const T** rows;         // of the image; null: padding
    std::int64_t n_rows, y;
    bool whole_rows;        // none of them is padding
    const std::int32_t* map;
    std::int64_t lo, hi;
    const T* weights;
    T* dst;
    bool simple;
};

template <class T> NPCONV_INLINE T* output(const Job<T>& job, std::int64_t row, std::int64_t x) {
    return job.dst + row * job.p.dst_stride[3] + x * job.p.dst_stride[4];
}

// What is left of an epilogue that is not simple, or of the last channels, which are no whole vector.
template <class T>
NPCONV_NOINLINE void put_any(const Job<T>& job, const T* sums, std::int64_t row, std::int64_t x, std::int64_t pixels, std::int64_t c) {
    const EpilogueArgs<T>& e = job.p.epilogue;
    const std::int64_t n = least(job.t.channels - c, lanes<T>), oc = job.t.c + c;
    const Vec<T> scale = channels_scale(e, oc, n), bias = channels_bias(e, oc, n);
    for (std::int64_t i = 0; i < pixels; ++i) {
        Vec<T> residual = set1(T(0));
        if (e.residual_kind != Residual::none)
            residual = load_strided(residual_at(e, job.t.n, oc, job.t.d, job.y + row, job.t.x0 + x + i), e.residual_stride[1], n);
        store_partial(output(job, row, x + i) + c, finish<T>(e, load(sums + i * lanes<T>), scale, bias, residual), n);
    }
}

// The columns of a tile that row r has: `step` apart, or, at a border, anywhere. OneByOne: asked for in order, and none is loaded
// before the one before; the sums and taps of wide kernels leave no registers for columns that wait.
template <class T, bool OneByOne, bool Table, bool Partial> struct Columns {
    const T* p;
    std::int64_t step;
    const T* const* table;
    std::int64_t c, n;

    NPCONV_INLINE Vec<T> operator[](int j) {
        if (Table) return Partial ? load_partial(table[j] + c, n) : load(table[j] + c);
        if (!OneByOne) return load(p + j * step);
        if (j > 0) p += step;
        NPCONV_OPAQUE(p);
        return load(p);
    }
};

// A tile of PX pixels over the channels [from, to). Rows of the kernel: 0 is any number; 4 are two output rows of a 3x3
// kernel with stride 1.
template <class T, int K, int S, int PX, int Rows, bool Table, bool Partial>
NPCONV_NOINLINE void tile_sums(const Job<T>& job, std::int64_t x, std::int64_t from, std::int64_t to) {
    constexpr int L = lanes<T>, columns = (PX - 1) * S + K, kernel_rows = Rows == 4 ? 3 : Rows, outs = Rows == 4 ? 2 : 1;
    const std::int64_t step = job.p.src_stride[4], out_step = job.p.dst_stride[4], n_rows = Rows ? Rows : job.n_rows;
    const std::int64_t taps = (Rows ? kernel_rows : n_rows) * K, first = Table ? 0 : job.map[x * S] * step;
    const T* p[Rows ? Rows : 1] = {};
    if (Rows && !Table) NPCONV_UNROLL for (int r = 0; r < Rows; ++r) p[r] = job.rows[r] + first + from;
    const T* w = job.weights + from * taps;
    T* out[2] = {output(job, 0, x) + from, output(job, 1, x) + from};
    Straight<T> epilogue;
    epilogue.set(job.p.epilogue, job.t.c + from);
    const bool simple = job.simple;
    for (std::int64_t c = from; c < to; c += L) {
        Vec<T> acc[outs][PX][1];
        NPCONV_UNROLL for (int o = 0; o < outs; ++o)
            NPCONV_UNROLL for (int i = 0; i < PX; ++i) acc[o][i][0] = set1(T(0));
        // What row r adds to the first output row with the taps at `w`, to the second one with those of the kernel row before.
        const auto add_row = [&](const T* row, std::int64_t r, const T* w, bool above, bool below) NPCONV_INLINE_LAMBDA {
            Columns<T, (K > 3), Table, Partial> column{row, step, job.table + r * columns, c, to - c};
            Vec<T> tap[outs][K];
            NPCONV_UNROLL for (int k = 0; k < K; ++k) {
                if (above) tap[0][k] = load(w + k * L);
                if (below) tap[outs - 1][k] = load(w + (k - K) * L);
            }
            NPCONV_UNROLL for (int j = 0; j < columns; ++j) {
                const Vec<T> v = column[j];
                NPCONV_UNROLL for (int k = 0; k < K; ++k) {
                    if (j - k < 0 || (j - k) % S != 0 || (j - k) / S >= PX) continue;
                    Vec<T>& a = acc[0][(j - k) / S][0];
                    if (K > 3) a = fma(v, tap[0][k], a);  // fma_into would put a tap on the stack
                    else if (above) fma_into(a, v, tap[0][k]);
                    if (below) fma_into(acc[outs - 1][(j - k) / S][0], v, tap[outs - 1][k]);
                }
            }
        };
        const auto put = [&](int o) NPCONV_INLINE_LAMBDA {
            if (simple && !Partial) {
                epilogue.finish_channels(acc[o], c - from);
                NPCONV_UNROLL for (int i = 0; i < PX; ++i) store(out[o] + i * out_step, acc[o][i][0]);
                return;
            }
            alignas(64) T sums[PX * L];
            NPCONV_UNROLL for (int i = 0; i < PX; ++i) store(sums + i * L, acc[o][i][0]);
            put_any(job, sums, o, x, PX, c);
        };
        if constexpr (Rows == 4) {
            add_row(p[0], 0, w, true, false);
            add_row(p[1], 1, w + 3 * L, true, true);
            add_row(p[2], 2, w + 6 * L, true, true);
            add_row(p[3], 3, w + 9 * L, false, true);
            put(0);
        } else if constexpr (Rows > 0) {
            NPCONV_UNROLL for (int r = 0; r < Rows; ++r) add_row(p[r], r, w + r * K * L, true, false);
        } else {
            NPCONV_NO_UNROLL for (std::int64_t r = 0; r < n_rows; ++r)
                add_row(Table ? nullptr : job.rows[r] + first + c, r, w + r * K * L, true, false);
        }
        put(outs - 1);
        if (Rows && !Table) NPCONV_UNROLL for (int r = 0; r < Rows; ++r) p[r] += L;
        w += taps * L;
        out[0] += L;
        out[1] += L;
    }
}

template <class T, int K, int S, int PX, int Rows> NPCONV_INLINE void tile(const Job<T>& job, std::int64_t x) {
    constexpr int columns = (PX - 1) * S + K;
    const std::int64_t position = x * S, whole = job.t.channels / lanes<T> * lanes<T>;
    const bool border = position < job.lo || position + columns > job.hi || !job.whole_rows;
    if (border || whole < job.t.channels)
        for (std::int64_t r = 0; r < job.n_rows; ++r)
            for (int j = 0; j < columns; ++j) {
                const std::int64_t column = job.map[position + j];
                job.table[r * columns + j] = column < 0 || !job.rows[r] ? job.padding : job.rows[r] + column * job.p.src_stride[4];
            }
    if (border) tile_sums<T, K, S, PX, Rows, true, false>(job, x, 0, whole);
    else tile_sums<T, K, S, PX, Rows, false, false>(job, x, 0, whole);
    if (whole < job.t.channels) tile_sums<T, K, S, PX, Rows, true, true>(job, x, whole, job.t.channels);
}

// The last tile begins where it has all its pixels, some of which are computed twice: not where what is read may be the output.
template <class T, int K, int S, int Rows> NPCONV_NOINLINE void row(const Job<T>& job) {
    constexpr int PX = tile_pixels<K>;
    const std::int64_t n = job.t.x1 - job.t.x0;
    const bool again = n >= PX && job.p.epilogue.residual_kind == Residual::none;
    std::int64_t x = 0;
    for (; x + PX <= n; x += PX) tile<T, K, S, PX, Rows>(job, x);
    if (x < n && again) tile<T, K, S, PX, Rows>(job, n - PX);
    else for (; x < n; ++x) tile<T, K, S, 1, Rows>(job, x);
}

// Where the pieces of a task's scratch lie.
template <class T> struct Scratch {
    std::size_t rows, table, bytes;
    NPCONV_INLINE Scratch(const Problem<T>& p, const Task& t) {
        const std::int64_t n_rows = p.kd * p.kh + 1, columns = 6 * p.sw + p.kw;
        rows = static_cast<std::size_t>(round_up(t.channels * std::int64_t(sizeof(T)), 64));  // behind a pixel of whole vectors
        table = rows + static_cast<std::size_t>(n_rows) * sizeof(T*);
        bytes = table + static_cast<std::size_t>(n_rows * columns) * sizeof(T*);
    }
};

template <class T> std::size_t scratch(const Problem<T>& p, const Task& t) { return Scratch<T>(p, t).bytes; }

template <class T, int S> NPCONV_INLINE void any_row(const Job<T>& job) {
    if (job.p.kw == 3) return job.n_rows == 3 ? row<T, 3, S, 3>(job) : row<T, 3, S, 0>(job);
    if (job.p.kw == 5) return row<T, 5, S, 0>(job);
    return row<T, 7, S, 0>(job);
}

template <class T> void run(const Problem<T>& p, const Task& t) {
    const Scratch<T> at(p, t);
    char* const memory = static_cast<char*>(t.scratch);
    T* const padding = reinterpret_cast<T*>(memory);
    for (std::int64_t c = 0; c < t.channels; c += lanes<T>) store(padding + c, set1(p.value));
    const std::int64_t first = t.x0 * p.sw;
    const T* const image = p.src + t.n * p.src_stride[0] + t.c;
    Job<T> job{p, t, padding, reinterpret_cast<const T**>(memory + at.table), reinterpret_cast<const T**>(memory + at.rows), 0, 0, true,
               p.w_map + first, p.interior_lo - first, p.interior_hi - first, p.weights + t.c * p.kd * p.kh * p.kw, nullptr,
               is_simple(p.epilogue)};
    const auto add_row = [&](std::int64_t d, std::int64_t h) {
        const std::int64_t offset = row_offset(p, d, h);
        job.rows[job.n_rows++] = offset == constant_row ? nullptr : image + offset;
        if (offset == constant_row) job.whole_rows = false;
    };
    const bool pairs = p.kd == 1 && p.kh == 3 && p.kw == 3 && p.sh == 1 && p.sw == 1 && p.dh == 1;
    for (job.y = t.y0; job.y < t.y1;) {
        job.dst = p.dst + t.n * p.dst_stride[0] + t.c + t.d * p.dst_stride[2] + job.y * p.dst_stride[3] + t.x0 * p.dst_stride[4];
        job.n_rows = 0;
        job.whole_rows = true;
        if (pairs && job.y + 1 < t.y1) {
            for (std::int64_t k = 0; k < 4; ++k) add_row(t.d * p.sd, job.y + k);
            row<T, 3, 1, 4>(job);
            job.y += 2;
            continue;
        }
        for (std::int64_t d = 0; d < p.kd; ++d)
            for (std::int64_t k = 0; k < p.kh; ++k) add_row(t.d * p.sd + d * p.dd, job.y * p.sh + k * p.dh);
        p.sw == 1 ? any_row<T, 1>(job) : any_row<T, 2>(job);
        ++job.y;
    }
}

}  // namespace

// Weights are those of lanes = channels.
extern const depthwise::Kernels depthwise_nhwc_kernels = {{run<float>, scratch<float>, pack_lanes<float>},
                                                          {run<double>, scratch<double>, pack_lanes<double>}};

}  // namespace npconv::NPCONV_THIS_ISA
