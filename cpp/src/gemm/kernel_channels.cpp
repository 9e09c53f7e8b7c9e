// Dense sums with lanes = output channels ("K-vector"): acc[PX][KV], KV weight vectors against PX neighbouring pixels
// broadcast from memory. 14 x 2 with 32 registers, 6 x 2 with 16. Weights stream through once a tile and are fetched
// ahead by software: without that a deep layer runs at half speed.
// One core, fastest calls, AVX-512: 3x3 88 to 97 % of the FMA peak (64x56 to 512x7, stride 2 included), deep 1x1 95 to
// 98 %. AVX2: 3x3 78 to 86 %, 1x1 81 % at 1024x14, but 71 to 78 % on 7x7 maps: rows of 7 make tiles of 4 and 3 pixels,
// too few to hide the latency of an FMA, and the weights of a deep layer come from L2 for every one of them.
#include "gemm/kernel.hpp"
#include "gemm/tile.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int most_pixels = registers == 32 ? 14 : 6;
constexpr int ahead_bytes = 3072;  // of weights; 1 to 4 KB measure alike

template <int A, int B> constexpr int round_up = (A + B - 1) / B * B;
template <class T> constexpr int tile_pitch = 2 * lanes<T>;
template <class T> constexpr int tile_rows = round_up<most_pixels, lanes<T>>;

// PX pixels of one row, or PX / 2 pixels of each of two rows that lie x_row apart.
template <class T, int PX, int KV, bool TwoRows>
NPCONV_NOINLINE void tile_sum(const DenseSum& s, const T* x, std::ptrdiff_t x_row, const T* NPCONV_RESTRICT w, T* tile) {
    constexpr int L = lanes<T>, n = PX * KV * L, first_row = TwoRows ? PX / 2 : PX;
    BlockCount<T> count;
    for (std::int64_t g = 0; g < s.groups; ++g, x += s.group_stride) {
        const std::int64_t entries = g + 1 < s.groups ? s.entries : s.last;
        const std::ptrdiff_t* offset = s.offset;
        const std::ptrdiff_t* const end = offset + entries;
        do {
            const std::ptrdiff_t* const stop = end - offset > dense_block ? offset + dense_block : end;
            Vec<T> acc[PX][KV];
            NPCONV_UNROLL for (int i = 0; i < PX; ++i)
                NPCONV_UNROLL for (int v = 0; v < KV; ++v) acc[i][v] = set1(T(0));
            NPCONV_NO_UNROLL for (; offset < stop; ++offset, w += KV * L) {
                const T* p = x + *offset;
                const T* q = TwoRows ? p + x_row : p;
                NPCONV_UNROLL for (int b = 0; b < KV * L * int(sizeof(T)); b += 64)
                    prefetch(reinterpret_cast<const char*>(w) + ahead_bytes + b);
                Vec<T> weight[KV];
                NPCONV_UNROLL for (int v = 0; v < KV; ++v) weight[v] = load(w + v * L);
                NPCONV_UNROLL for (int i = 0; i < PX; ++i) {
                    const Vec<T> pixel = set1(i < first_row ? p[i] : q[i - first_row]);
                    NPCONV_UNROLL for (int v = 0; v < KV; ++v) acc[i][v] = fma(pixel, weight[v], acc[i][v]);
                }
            }
            if (count.blocks == 0) {
                NPCONV_UNROLL for (int i = 0; i < PX; ++i)
                    NPCONV_UNROLL for (int v = 0; v < KV; ++v) store(tile + (i * KV + v) * L, acc[i][v]);
            } else {
                NPCONV_UNROLL for (int i = 0; i < PX; ++i)
                    NPCONV_UNROLL for (int v = 0; v < KV; ++v) {
                        T* t = tile + (i * KV + v) * L;
                        store(t, add(load(t), acc[i][v]));
                    }
            }
            count.next(tile, n);
        } while (offset < end);
    }
    count.finish(tile, n);
}

template <class T, int KV, bool TwoRows, int PX = most_pixels>
NPCONV_INLINE void run_tile(int pixels, const DenseSum& s, const T* x, std::ptrdiff_t x_row, const T* w, T* tile) {
    if (pixels == PX) return tile_sum<T, PX, KV, TwoRows>(s, x, x_row, w, tile);
    if constexpr (PX > (TwoRows ? 2 : 1)) run_tile<T, KV, TwoRows, PX - (TwoRows ? 2 : 1)>(pixels, s, x, x_row, w, tile);
}

template <class T, int KV>
NPCONV_INLINE void tile_to_memory(const DenseSweep<T>& a, int pixels, const T* x, bool two_rows, const T* w,
                                  std::int64_t oc, std::int64_t channels, std::int64_t pixel) {
    constexpr int L = lanes<T>;
    alignas(64) T tile[2 * tile_rows<T> * tile_pitch<T>];
    if (a.store.pixel_stride == 1) {
        T* dst = a.store.dst + oc * a.store.channel_stride + pixel;
        for (int i = 0; i < channels; ++i, dst += a.store.channel_stride) {
            prefetch_write(dst);
            prefetch_write(dst + pixels - 1);
        }
    }
    if (two_rows)
        run_tile<T, KV, true>(pixels, a.sum, x, a.x_row_stride, w, tile);
    else
        run_tile<T, KV, false>(pixels, a.sum, x, 0, w, tile);
    if (a.store.pixel_stride == 1) {
        alignas(64) T turned[tile_rows<T> * tile_pitch<T>];
        transpose_tile(tile, KV * L, pixels, KV * L, turned, tile_rows<T>);
        store_tile<T, false>(a.store, turned, tile_rows<T>, int(channels), pixels, oc, pixel);
    } else {
        store_tile<T, true>(a.store, tile, KV * L, pixels, channels, oc, pixel);
    }
}

template <class T>
NPCONV_NOINLINE void any_tile(const DenseSweep<T>& a, int pixels, const T* x, bool two_rows, const T* w, std::int64_t oc,
                              std::int64_t channels, std::int64_t pixel) {
    if (channels > lanes<T>)
        tile_to_memory<T, 2>(a, pixels, x, two_rows, w, oc, channels, pixel);
    else
        tile_to_memory<T, 1>(a, pixels, x, two_rows, w, oc, channels, pixel);
}

// Weights outside, tiles inside: one block of weights stays in L2 (often L1) while it meets every pixel of the band.
template <class T> void sweep(const DenseSweep<T>& a) {
    constexpr int block = 2 * lanes<T>;
    const std::int64_t terms = a.sum.terms();
    const bool whole_rows = a.row_pixels == a.pixel_row;  // only then a tile of two rows is one run of output pixels
    for (std::int64_t b = a.block_begin; b < a.block_end; ++b) {
        const T* w = a.weights + b * block * terms;
        const std::int64_t left = a.oc - b * block, channels = left < block ? left : block, oc = a.oc_first + b * block;
        std::int64_t r = 0;
        if (whole_rows && 2 * a.row_pixels <= most_pixels && a.row_pixels > most_pixels / 4)
            for (; r + 1 < a.rows; r += 2)
                any_tile(a, int(2 * a.row_pixels), a.x + r * a.x_row_stride, true, w, oc, channels,
                         a.pixel + r * a.pixel_row);
        const std::int64_t tiles = tiles_of(a.row_pixels, most_pixels);
        for (; r < a.rows; ++r)
            for (std::int64_t i = 0; i < tiles; ++i) {
                const std::int64_t begin = tile_begin(a.row_pixels, tiles, i), end = tile_begin(a.row_pixels, tiles, i + 1);
                any_tile(a, int(end - begin), a.x + r * a.x_row_stride + begin, false, w, oc, channels,
                         a.pixel + r * a.pixel_row + begin);
            }
    }
}

}  // namespace

extern const ChannelKernels channel_kernels = {{2 * lanes<float>, lanes<float>, most_pixels, sweep<float>},
                                               {2 * lanes<double>, lanes<double>, most_pixels, sweep<double>}};

}  // namespace npconv::NPCONV_THIS_ISA
