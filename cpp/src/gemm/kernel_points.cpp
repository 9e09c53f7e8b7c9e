// Micro-kernels of the points GEMM. U is the operand that streams: it is read once per group of tiles, in order, and
// fetched ahead by hand.
#include "gemm/points_kernel.hpp"

#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int micro = registers == 32 ? 14 : 6;
// With 16 registers a channel of 12 products leaves little room for anything else: a vector of channels in one go.
constexpr bool unroll = registers == 16;
constexpr int near_step = unroll ? 32 : 64, far_step = 128;  // bytes of the next block fetched per channel: several groups, one
// Channels summed by one accumulator. Four times as many are 0 to 3 % faster, but where all channels are alike their roundings add up to
// three times what class `standard` promises (tests/test_accuracy.py).
constexpr std::int64_t block = 64;

// What the groups of tiles of one point, panel and block of channels have in common, but for v and m.
template <class T> struct Work {
    const T *v, *u;
    T* m;
    std::int64_t pitch, ic;  // elements from one vector of channels to the next in v and in m; channels
    bool accumulate;
    const char* ahead;  // the part of U that is needed next
    std::ptrdiff_t ahead_step;
};

// One group of PX tiles x KV vectors.
template <class T, int PX, int KV> NPCONV_NOINLINE void tile(const Work<T>& work) {
    constexpr int L = lanes<T>;
    Vec<T> acc[PX][KV];
    NPCONV_UNROLL for (int p = 0; p < PX; ++p) {
        NPCONV_UNROLL for (int k = 0; k < KV; ++k) acc[p][k] = set1(T(0));
    }
    const std::int64_t pitch = work.pitch;
    const std::ptrdiff_t step = work.ahead_step;
    const T *NPCONV_RESTRICT v = work.v, *NPCONV_RESTRICT u = work.u;
    const char* ahead = work.ahead;
    const auto add_channel = [&](const T* x, const T* w_of) NPCONV_INLINE_LAMBDA {
        Vec<T> w[KV];
        NPCONV_UNROLL for (int k = 0; k < KV; ++k) w[k] = load(w_of + k * L);
        NPCONV_UNROLL for (int p = 0; p < PX; ++p) {
            const Vec<T> t = set1(x[p * L]);
            NPCONV_UNROLL for (int k = 0; k < KV; ++k) fma_into(acc[p][k], t, w[k]);
        }
    };
    std::int64_t ic = work.ic;
    if (unroll && step != far_step) {
        NPCONV_NO_UNROLL for (; ic >= L; ic -= L, v += pitch, u += L * KV * L, ahead += L * step) {
            NPCONV_UNROLL for (int c = 0; c < L; ++c) {
                if (c % 2 == 0) prefetch(ahead + c * near_step);
                add_channel(v + c, u + c * (KV * L));
            }
        }
    }
    for (; ic > 0; ic -= L, v += pitch) {
        const T* const end = u + (ic < L ? ic : L) * (KV * L);
        const T* x = v;
        NPCONV_NO_UNROLL for (; u < end; u += KV * L, ++x, ahead += step) {
            prefetch(ahead);
            prefetch(ahead + 64);
            add_channel(x, u);
        }
    }
    T* const m = work.m;
    if (work.accumulate) {
        NPCONV_UNROLL for (int p = 0; p < PX; ++p) {
            NPCONV_UNROLL for (int k = 0; k < KV; ++k) acc[p][k] = add(load(m + k * pitch + p * L), acc[p][k]);
        }
    }
    NPCONV_UNROLL for (int p = 0; p < PX; ++p) {
        NPCONV_UNROLL for (int k = 0; k < KV; ++k) store(m + k * pitch + p * L, acc[p][k]);
    }
}

template <class T> using Tile = void (*)(const Work<T>&);

#define NPCONV_TILES_6(KV) tile<T, 1, KV>, tile<T, 2, KV>, tile<T, 3, KV>, tile<T, 4, KV>, tile<T, 5, KV>, tile<T, 6, KV>
#define NPCONV_TILES_14(KV)                                                                                 \
    NPCONV_TILES_6(KV), tile<T, 7, KV>, tile<T, 8, KV>, tile<T, 9, KV>, tile<T, 10, KV>, tile<T, 11, KV>, \
        tile<T, 12, KV>, tile<T, 13, KV>, tile<T, 14, KV>

// Only the micro-kernels that this level uses are instantiated.
template <class T, int M> struct Table;
template <class T> struct Table<T, 6> {
    static constexpr Tile<T> of[points_panel][6] = {{NPCONV_TILES_6(1)}, {NPCONV_TILES_6(2)}};
};
template <class T> struct Table<T, 14> {
    static constexpr Tile<T> of[points_panel][14] = {{NPCONV_TILES_14(1)}, {NPCONV_TILES_14(2)}};
};

template <class T> void clear(T* m, std::int64_t pitch, int kv, std::int64_t begin, std::int64_t end) {
    for (int k = 0; k < kv; ++k)
        for (std::int64_t t = begin; t < end; ++t) store(m + k * pitch + t * lanes<T>, set1(T(0)));
}

// A point's tiles in groups of `least` tiles, the first `larger` of them of one more.
struct Groups {
    std::int64_t begin, count, least, larger;
    explicit Groups(const Point& p) : begin(p.begin), count((p.end - p.begin + micro - 1) / micro), least(0), larger(0) {
        if (count == 0) return;
        least = (p.end - p.begin) / count;
        larger = p.end - p.begin - least * count;
    }
};

// The groups of tiles of one block of channels. The block of U after the next, all of them follow one another, comes into L1 meanwhile (the
// next one: 0.86 to 0.95 times as fast from L3; into L2: 0.9 to 1.0), its lines spread over all groups: where U streams from L3 or memory for
// one or two groups, a core can't wait for it at the first and idle its buses at the second.
template <class T> NPCONV_INLINE void run_groups(Work<T>& work, int kv, const Groups& groups) {
    constexpr int L = lanes<T>;
    const std::int64_t bytes = work.ic * kv * L * std::int64_t(sizeof(T));
    work.ahead = reinterpret_cast<const char*>(work.u) + 2 * bytes;
    work.ahead_step = groups.count == 1 ? far_step : near_step;
    work.v += groups.begin * L;
    work.m += groups.begin * L;
    std::int64_t left = bytes;
    for (std::int64_t i = 0; i < groups.count; ++i) {
        const std::int64_t tiles = groups.least + (i < groups.larger);
        if (left <= 0) work.ahead_step = 0;
        Table<T, micro>::of[kv - 1][tiles - 1](work);
        const std::int64_t fetched = work.ic * work.ahead_step;
        work.ahead += fetched;
        left -= fetched;
        work.v += tiles * L;
        work.m += tiles * L;
    }
}

template <class T>
void run(const PointsGemm<T>& g, std::int64_t point_begin, std::int64_t point_end, std::int64_t panel_begin,
         std::int64_t panel_end) {
    constexpr int L = lanes<T>;
    Work<T> work;
    work.pitch = g.tiles * L;
    for (std::int64_t p = point_begin; p < point_end; ++p) {
        const Point& point = g.points[p];
        const Groups groups(point);
        for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
            const std::int64_t vector = panel * points_panel;
            const int kv = g.oc_vectors - vector < points_panel ? 1 : points_panel;
            const T* u = g.u + point.u + vector * L * point.ic;
            T* m = g.m + p * g.m_point + vector * work.pitch;
            if (!g.accumulate) {
                clear(m, work.pitch, kv, 0, point.begin);
                clear(m, work.pitch, kv, point.end, g.tiles);
            }
            for (std::int64_t c = 0; c < point.ic; c += block) {
                work.ic = point.ic - c < block ? point.ic - c : block;
                work.v = g.v + point.v + c / L * work.pitch;
                work.u = u + c * kv * L;
                work.m = m;
                work.accumulate = g.accumulate || c > 0;
                run_groups(work, kv, groups);
            }
        }
    }
}

}  // namespace

extern const PointsKernels points_kernels = {{run<float>, run<double>}, micro};

}  // namespace npconv::NPCONV_THIS_ISA
