// Micro-kernels of the points GEMM. U is the operand that streams: it is read once per group of tiles, in order, and
// fetched ahead by hand (512->512 at 28x28 on one core: 12.5 ms without, 10.5 ms with; 2 to 8 KB ahead are alike).
#include "gemm/points_kernel.hpp"

#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int micro = registers == 32 ? 14 : 6;
constexpr std::int64_t block = 256;  // channels summed by one accumulator
constexpr int ahead = 4096;          // bytes

// One group of PX tiles x KV vectors over at most `block` channels. v, m: the group's first tile; pitch: elements from
// one vector of channels to the next in v and in m.
template <class T, int PX, int KV>
NPCONV_NOINLINE void tile(const T* NPCONV_RESTRICT v, const T* NPCONV_RESTRICT u, T* NPCONV_RESTRICT m,
                          std::int64_t pitch, std::int64_t ic, bool accumulate) {
    constexpr int L = lanes<T>;
    Vec<T> acc[PX][KV];
    NPCONV_UNROLL for (int p = 0; p < PX; ++p) {
        NPCONV_UNROLL for (int k = 0; k < KV; ++k) acc[p][k] = set1(T(0));
    }
    for (; ic > 0; ic -= L, v += pitch) {
        const std::int64_t n = ic < L ? ic : L;
        NPCONV_NO_UNROLL for (std::int64_t c = 0; c < n; ++c) {
            Vec<T> w[KV];
            NPCONV_UNROLL for (int k = 0; k < KV; ++k) w[k] = load(u + k * L);
            NPCONV_UNROLL for (int b = 0; b < int(KV * L * sizeof(T)); b += 64)
                prefetch(reinterpret_cast<const char*>(u) + b + ahead);
            NPCONV_UNROLL for (int p = 0; p < PX; ++p) {
                const Vec<T> x = set1(v[p * L + c]);
                NPCONV_UNROLL for (int k = 0; k < KV; ++k) acc[p][k] = fma(x, w[k], acc[p][k]);
            }
            u += KV * L;
        }
    }
    if (accumulate) {
        NPCONV_UNROLL for (int p = 0; p < PX; ++p) {
            NPCONV_UNROLL for (int k = 0; k < KV; ++k) acc[p][k] = add(load(m + k * pitch + p * L), acc[p][k]);
        }
    }
    NPCONV_UNROLL for (int p = 0; p < PX; ++p) {
        NPCONV_UNROLL for (int k = 0; k < KV; ++k) store(m + k * pitch + p * L, acc[p][k]);
    }
}

template <class T> using Tile = void (*)(const T*, const T*, T*, std::int64_t, std::int64_t, bool);

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

template <class T>
void run(const PointsGemm<T>& g, std::int64_t point_begin, std::int64_t point_end, std::int64_t panel_begin,
         std::int64_t panel_end) {
    constexpr int L = lanes<T>;
    const std::int64_t pitch = g.tiles * L, groups = (g.tiles + micro - 1) / micro;
    for (std::int64_t p = point_begin; p < point_end; ++p)
        for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
            const std::int64_t vector = panel * points_panel;
            const int kv = g.oc_vectors - vector < points_panel ? 1 : points_panel;
            const T* u = g.u + p * g.u_point + vector * L * g.ic;
            T* m = g.m + p * g.m_point + vector * pitch;
            for (std::int64_t c = 0; c < g.ic; c += block) {
                const std::int64_t ic = g.ic - c < block ? g.ic - c : block;
                const T* v = g.v + p * g.v_point + c / L * pitch;
                for (std::int64_t i = 0; i < groups; ++i) {
                    const std::int64_t t0 = g.tiles * i / groups, t1 = g.tiles * (i + 1) / groups;
                    Table<T, micro>::of[kv - 1][t1 - t0 - 1](v + t0 * L, u + c * kv * L, m + t0 * L, pitch, ic, c > 0);
                }
            }
        }
}

}  // namespace

extern const PointsKernels points_kernels = {run<float>, run<double>, micro};

}  // namespace npconv::NPCONV_THIS_ISA
