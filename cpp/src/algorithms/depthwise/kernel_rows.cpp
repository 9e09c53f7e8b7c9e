// 3x3 kernels on nchw images, stride 1 or 2 on both axes: lanes = neighbouring outputs of one row, R output rows at a time,
// the nine weights in registers. Rows come straight from the image; padding rows point to a row of zeros and the first
// and last column blocks load under masks. With stride 2, two vectors are split into their even and odd elements.
// What isn't zero padding of an nchw image is read from a padded copy of R output rows' input (no masks but the last).
#include "algorithms/depthwise/output.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int most_rows = registers >= 32 ? 7 : 4;

template <class T> struct Tile {
    const T* const* rows;  // column 0 of each input row
    std::int64_t x;        // column of tap 0, lane 0; may be negative
    std::int64_t width;    // columns that exist
    T* out;
    std::int64_t out_stride, n;  // outputs (<= L)
    const T* residual;
    std::int64_t residual_row, residual_column;
};

NPCONV_INLINE int bound(std::int64_t i, int most_lanes) { return i < 0 ? 0 : i > most_lanes ? most_lanes : int(i); }

// Lanes whose column x + lane exists; the others are zero.
template <class T> NPCONV_INLINE Vec<T> load_columns(const T* row, std::int64_t x, std::int64_t width) {
    return load_range(row + x, bound(-x, lanes<T>), bound(width - x, lanes<T>));
}

// The three taps of a row for L outputs from column x on.
template <class T, int S, bool Masked>
NPCONV_INLINE void load_taps(const T* row, std::int64_t x, std::int64_t width, Vec<T> (&tap)[3]) {
    constexpr int L = lanes<T>;
    if constexpr (S == 1) {
        NPCONV_UNROLL for (int k = 0; k < 3; ++k) tap[k] = Masked ? load_columns(row, x + k, width) : load(row + x + k);
    } else {
        Vec<T> unused;
        const Vec<T> a = Masked ? load_columns(row, x, width) : load(row + x);
        const Vec<T> b = Masked ? load_columns(row, x + L, width) : load(row + x + L);
        const Vec<T> c = Masked ? load_columns(row, x + 2, width) : load(row + x + 2);
        const Vec<T> d = Masked ? load_columns(row, x + L + 2, width) : load(row + x + L + 2);
        deinterleave(a, b, tap[0], tap[1]);
        deinterleave(c, d, tap[2], unused);
    }
}

template <class T, int S, int R, bool Masked, bool Plain>
NPCONV_INLINE void tile(const Tile<T>& t, const Vec<T> (&w)[9], const EpilogueArgs<T>& e, const Simple<T>& simple,
                        Vec<T> scale, Vec<T> bias) {
    Vec<T> acc[R];
    NPCONV_UNROLL for (int r = 0; r < R; ++r) acc[r] = set1(T(0));
    NPCONV_UNROLL for (int i = 0; i < (R - 1) * S + 3; ++i) {
        Vec<T> tap[3];
        load_taps<T, S, Masked>(t.rows[i], t.x, t.width, tap);
        NPCONV_UNROLL for (int r = 0; r < R; ++r)
            if (i - r * S >= 0 && i - r * S < 3)
                NPCONV_UNROLL for (int k = 0; k < 3; ++k) acc[r] = fma(tap[k], w[(i - r * S) * 3 + k], acc[r]);
    }
    if constexpr (Plain) {
        NPCONV_UNROLL for (int r = 0; r < R; ++r) {
            const Vec<T> v = simple(acc[r], scale, bias);
            if constexpr (Masked) store_partial(t.out + r * t.out_stride, v, t.n);
            else store(t.out + r * t.out_stride, v);
        }
    } else {
        T sums[R * lanes<T>];
        NPCONV_UNROLL for (int r = 0; r < R; ++r) store(sums + r * lanes<T>, acc[r]);
        NPCONV_NO_UNROLL for (int r = 0; r < R; ++r) {
            Vec<T> residual = set1(T(0));
            if (t.residual) residual = load_strided(t.residual + r * t.residual_row, t.residual_column, t.n);
            const Vec<T> v = finish<T>(e, load(sums + r * lanes<T>), scale, bias, residual);
            store_partial(t.out + r * t.out_stride, v, t.n);
        }
    }
}

// R output rows from row y on: `rows` are their input rows, `origin` the column of tap 0 of output 0.
template <class T> struct Strip {
    const T* rows[2 * most_rows + 1];
    std::int64_t origin, width;
};

template <class T, int S, int R, bool Plain>
NPCONV_NOINLINE void strip_rows(const Problem<T>& p, const Task& task, const Strip<T>& strip, std::int64_t y,
                                std::int64_t oc) {
    constexpr int L = lanes<T>;
    const EpilogueArgs<T>& e = p.epilogue;
    const T* weights = p.weights + oc * 9;
    Vec<T> w[9];
    NPCONV_UNROLL for (int k = 0; k < 9; ++k) w[k] = set1(weights[k]);
    const Simple<T> simple(e);
    const Vec<T> scale = channel_scale(e, oc), bias = channel_bias(e, oc);
    T* out = p.dst + task.n * p.dst_stride[0] + oc * p.dst_stride[1] + task.d * p.dst_stride[2] + y * p.dst_stride[3];
    const T* residual = e.residual_kind == Residual::none ? nullptr : residual_at(e, task.n, oc, task.d, y, 0);
    for (std::int64_t x = task.x0; x < task.x1; x += L) {
        const std::int64_t column = strip.origin + (x - task.x0) * S, n = least(L, task.x1 - x);
        const Tile<T> t{strip.rows, column, strip.width, out + x, p.dst_stride[3], n,
                        residual ? residual + x * e.residual_stride[4] : nullptr, e.residual_stride[3],
                        e.residual_stride[4]};
        // load_taps reads S*L + 2 columns.
        if (Plain && n == L && column >= 0 && column + S * L + 2 <= strip.width)
            tile<T, S, R, false, Plain>(t, w, e, simple, scale, bias);
        else
            tile<T, S, R, true, Plain>(t, w, e, simple, scale, bias);
    }
}

template <class T, int S, int R>
NPCONV_INLINE void strip_any(const Problem<T>& p, const Task& t, const Strip<T>& s, std::int64_t y) {
    for (std::int64_t m = 0; m < p.multiplier; ++m) {
        const std::int64_t oc = t.c * p.multiplier + m;
        if (is_simple(p.epilogue)) strip_rows<T, S, R, true>(p, t, s, y, oc);
        else strip_rows<T, S, R, false>(p, t, s, y, oc);
    }
}

// Scratch: a row of padding, then the padded copy of the most rows that one step reads.
template <class T> struct Layout {
    std::int64_t columns, row_stride;
    std::size_t bytes;
    Layout(const Problem<T>& p, const Task& t) {
        columns = (t.x1 - t.x0 - 1) * p.sw + 3;
        row_stride = round_up(most(columns, p.iw), 16) + 16;
        bytes = static_cast<std::size_t>((p.direct ? 1 : (most_rows - 1) * p.sh + 3) * row_stride) * sizeof(T) + 64;
    }
};

template <class T, int S, int R>
void band(const Problem<T>& p, const Task& t, std::int64_t& y, const Layout<T>& at) {
    constexpr int n_rows = (R - 1) * S + 3;
    T* scratch = static_cast<T*>(t.scratch);
    for (; y + R <= t.y1; y += R) {
        std::int64_t offset[n_rows];
        for (int i = 0; i < n_rows; ++i) offset[i] = row_offset(p, t.d * p.sd, y * S + i);
        Strip<T> s;
        StripSource<T> source = strip_source(p, t.n, t.c, t.x0, t.x1);
        if (p.direct) {
            for (int i = 0; i < n_rows; ++i) s.rows[i] = offset[i] == constant_row ? scratch : source.image + offset[i];
            // Where position 0 lies in the image; the map itself has no negative indices.
            s.origin = t.x0 * S - p.interior_lo + p.w_map[p.interior_lo];
            s.width = p.iw;
        } else {
            source.row_offset = offset;
            source.rows = n_rows;
            p.strip.planar(source, 1, 1, scratch, 0, at.row_stride, 0);
            for (int i = 0; i < n_rows; ++i) s.rows[i] = scratch + i * at.row_stride;
            s.origin = 0;
            s.width = at.row_stride - 2;  // beyond `columns` only lanes that aren't stored
        }
        strip_any<T, S, R>(p, t, s, y);
    }
}

template <class T, int S> void rows_of(const Problem<T>& p, const Task& t, const Layout<T>& at) {
    std::int64_t y = t.y0;
    if constexpr (most_rows >= 7)
        if (p.rows >= 7) band<T, S, 7>(p, t, y, at);
    if (p.rows >= 4) band<T, S, 4>(p, t, y, at);
    if (p.rows >= 2) band<T, S, 2>(p, t, y, at);
    band<T, S, 1>(p, t, y, at);
}

template <class T> void run(const Problem<T>& p, const Task& task) {
    const Layout<T> at(p, task);
    if (p.direct) {
        T* zeros = static_cast<T*>(task.scratch);
        for (std::int64_t i = 0; i < at.row_stride; i += lanes<T>) store(zeros + i, set1(p.value));
    }
    Task t = task;
    for (; t.c < task.c + task.channels; ++t.c) {
        if (p.sw == 1) rows_of<T, 1>(p, t, at);
        else rows_of<T, 2>(p, t, at);
    }
}

template <class T> std::size_t scratch(const Problem<T>& p, const Task& t) { return Layout<T>(p, t).bytes; }

}  // namespace

extern const depthwise::Kernels depthwise_rows_kernels = {{run<float>, scratch<float>, pack_taps<float>},
                                                          {run<double>, scratch<double>, pack_taps<double>}};

}  // namespace npconv::NPCONV_THIS_ISA
