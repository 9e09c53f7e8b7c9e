// Rows of points from taps, multiplied as they are made: taps.hpp.
#include "algorithms/winograd/taps.hpp"

#include "algorithms/winograd/points.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int most_tiles = 4;
constexpr std::int64_t near_channels = 64;  // whose taps, 36 KB, meet all rows in turn. (512x7, Zen 5: with 32 3 % slower, with all 8 %)
// Fetched of the next taps per row and channel: nine lines in six rows. (Two lines in four rows, one or none in the others: 8 % slower
// from memory; to L2 instead of L1: in every other minute 15 %.)
constexpr std::ptrdiff_t ahead_bytes = 96;

// A row of points, of some channels.
template <class T> struct Row {
    const T* v;  // its first point, at the first tile
    std::int64_t v_point, v_vector;  // elements to the next point and the next vector of channels
    const T* taps;
    std::int64_t taps_channel;  // elements to the next channel
    std::int64_t channels;
    T x;  // where the row's points lie
    const char* ahead;  // taps that are needed next
    T* m;  // as v
    std::int64_t m_point;
    const T* scale;  // of each point
    bool accumulate;
};

// Sums of N tiles for each finite point, of `Last` tiles at infinity.
template <class T, int N, int Last> struct Sums {
    static constexpr int finite_points = 5;
    Vec<T> finite[finite_points][N], last[Last > 0 ? Last : 1];

    NPCONV_INLINE Sums() {
        NPCONV_UNROLL for (int p = 0; p < finite_points; ++p) {
            NPCONV_UNROLL for (int t = 0; t < N; ++t) finite[p][t] = set1(T(0));
        }
        NPCONV_UNROLL for (int t = 0; t < Last; ++t) last[t] = set1(T(0));
    }
    template <int Count> static NPCONV_INLINE void add(Vec<T>* sums, const T* v, Vec<T> u) {
        NPCONV_OPAQUE(v);  // one address for all tiles, or gcc keeps one for each
        NPCONV_UNROLL for (int t = 0; t < Count; ++t) fma_into(sums[t], set1(v[t * lanes<T>]), u);
    }
    NPCONV_INLINE void add_finite(int p, const T* v, Vec<T> u) { add<N>(finite[p], v, u); }
    NPCONV_INLINE void add_last(const T* v, Vec<T> u) { add<Last>(last, v, u); }
    template <int Count> static NPCONV_INLINE void store_point(const Vec<T>* sums, const Row<T>& row, int p) {
        const Vec<T> scale = set1(row.scale[p]);
        T* const m = row.m + p * row.m_point;
        NPCONV_UNROLL for (int t = 0; t < Count; ++t)
            store(m + t * lanes<T>, row.accumulate ? fma(sums[t], scale, load(m + t * lanes<T>)) : mul(sums[t], scale));
    }
    NPCONV_INLINE void store_row(const Row<T>& row) const {
        NPCONV_UNROLL for (int p = 0; p < finite_points; ++p) store_point<N>(finite[p], row, p);
        if (Last > 0) store_point<Last>(last, row, finite_points);
    }
};

// Calls add(v, taps) for each channel.
template <class T, class Add> NPCONV_INLINE void for_channels(const Row<T>& row, const Add& add) {
    constexpr int L = lanes<T>;
    const T *v_of = row.v, *taps = row.taps;
    const char* ahead = row.ahead;
    for (std::int64_t left = row.channels; left > 0; left -= L, v_of += row.v_vector) {
        const T* const end = v_of + (left < L ? left : L);
        NPCONV_NO_UNROLL for (const T* v = v_of; v < end; ++v, taps += row.taps_channel, ahead += ahead_bytes) {
            prefetch(ahead);
            prefetch(ahead + 64);
            add(v, taps);
        }
    }
}

// Whole: a point with all three rows of taps; otherwise 0 or infinity, with the row that `taps` begins with. All points but infinity
// take the same tiles: a last finite one that some could do without (WinogradGrid::spared) is no work of its own.
// 512 bits, 7x7: 22 products, 10 (4) other multiplications and 4 additions in 53 (47) instructions, nothing on the stack; 31 (25) loads. All
// taps and points near, Zen 5: 106 cycles of two FMAs for a vector of output channels and an input channel, 85 at least; direct sums 220.
template <class T, int N, int Last, bool Whole> NPCONV_NOINLINE void points(const Row<T>& row) {
    using P = Points<4>;
    constexpr int L = lanes<T>;
    Sums<T, N, Last> sums;
    const std::int64_t step = row.v_point, step3 = 3 * step, step5 = 5 * step;
    const Vec<T> x = set1(row.x), x2 = set1(row.x * row.x);
    const Vec<T> a = set1(T(P::a)), a2 = set1(T(P::a2)), b = set1(T(P::b)), b2 = set1(T(P::b2));
    for_channels(row, [&](const T* v, const T* g) NPCONV_INLINE_LAMBDA {
        Vec<T> t[3];
        NPCONV_UNROLL for (int j = 0; j < 3; ++j) {
            t[j] = load(g + j * L);
            if (Whole) t[j] = fma(x2, load(g + (6 + j) * L), fma(x, load(g + (3 + j) * L), t[j]));
        }
        sums.add_finite(0, v, t[0]);
        if (Last > 0) sums.add_last(v + step5, t[2]);
        const Vec<T> ea = fma(a2, t[2], t[0]), oa = mul(a, t[1]);
        sums.add_finite(1, v + step, add(ea, oa));
        sums.add_finite(2, v + 2 * step, sub(ea, oa));
        const Vec<T> eb = fma(b2, t[2], t[0]), ob = mul(b, t[1]);
        sums.add_finite(3, v + step3, add(eb, ob));
        sums.add_finite(4, v + 4 * step, sub(eb, ob));
    });
    sums.store_row(row);
}

template <class T> using RowOf = void (*)(const Row<T>&);

// [whole][tiles - 1][tiles at infinity]
#define NPCONV_ROWS_1(T, whole) points<T, 1, 0, whole>, points<T, 1, 1, whole>
#define NPCONV_ROWS_2(T, whole) points<T, 2, 0, whole>, points<T, 2, 1, whole>, points<T, 2, 2, whole>
#define NPCONV_ROWS_3(T, whole) points<T, 3, 0, whole>, points<T, 3, 1, whole>, points<T, 3, 2, whole>, points<T, 3, 3, whole>
#define NPCONV_ROWS_4(T, whole) \
    points<T, 4, 0, whole>, points<T, 4, 1, whole>, points<T, 4, 2, whole>, points<T, 4, 3, whole>, points<T, 4, 4, whole>
#define NPCONV_ROWS(T, whole) \
    {{NPCONV_ROWS_1(T, whole)}, {NPCONV_ROWS_2(T, whole)}, {NPCONV_ROWS_3(T, whole)}, {NPCONV_ROWS_4(T, whole)}}
template <class T> constexpr RowOf<T> rows[2][most_tiles][most_tiles + 1] = {NPCONV_ROWS(T, false), NPCONV_ROWS(T, true)};

// M of a row's points for tiles that do without them.
template <class T> void clear(const WinogradTaps<T>& g, int count) {
    for (int p = 0; p < count; ++p)
        for (std::int64_t t = 0; t < g.tiles; ++t)
            if (t < g.points[p].begin || t >= g.points[p].end) store(g.m + p * g.m_point + t * lanes<T>, set1(T(0)));
}

template <class T> void run(const WinogradTaps<T>& g) {
    using P = Points<4>;
    constexpr int L = lanes<T>, A = P::points;
    clear(g, A * A);
    T scale[A][A];
    for (int i = 0; i < A; ++i)
        for (int j = 0; j < A; ++j) scale[i][j] = T(P::scale[i] * P::scale[j]);
    const std::int64_t fit = near_channels / g.depth / L * L, most = fit < L ? L : fit;
    Row<T> row;
    row.v_vector = g.tiles * L;
    row.v_point = g.points[1].v - g.points[0].v;
    row.m_point = g.m_point;
    row.taps_channel = g.depth * 9 * L;
    const std::int64_t v_depth = (g.channels + L - 1) / L * row.v_vector;
    for (std::int64_t c = 0; c < g.channels; c += most) {
        row.channels = g.channels - c < most ? g.channels - c : most;
        row.ahead = reinterpret_cast<const char*>(g.taps + (c + row.channels) * row.taps_channel);
        for (std::int64_t z = 0; z < g.depth; ++z) {
            row.accumulate = c + z > 0;
            for (int i = 0; i < A; ++i) {
                const Point *const first = g.points + i * A, &infinity = first[A - 1];
                const bool whole = i > 0 && i < A - 1;
                row.taps = g.taps + c * row.taps_channel + (z * 9 + (i == A - 1 ? 6 : 0)) * L;
                row.x = whole ? T(P::at[i]) : T(0);
                row.v = g.v + first->v + z * v_depth + c * g.tiles + first->begin * L;
                row.m = g.m + i * A * g.m_point + first->begin * L;
                row.scale = scale[i];
                const std::int64_t tiles = first->end - first->begin;
                if (tiles > 0) rows<T>[whole][tiles - 1][infinity.end - infinity.begin](row);
                row.ahead += ahead_bytes * row.channels;
            }
        }
    }
}

// With 16 registers a row of points doesn't fit.
template <bool Fits> constexpr WinogradTapsKernels kernels() {
    if constexpr (Fits)
        return {{run<float>, run<double>}, most_tiles};
    else
        return {};
}

}  // namespace

extern const WinogradTapsKernels winograd_taps_kernels = kernels<registers == 32>();

}  // namespace npconv::NPCONV_THIS_ISA
