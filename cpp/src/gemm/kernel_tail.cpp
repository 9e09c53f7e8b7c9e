// The last pixels of a row with lanes = pixels, where they are at most half a vector: sums with lanes = output channels, which read the
// same packed weights. A vector of pixels would multiply mostly nothing: 14x14 pixels are twelve vectors of 16 and four pixels, 7x7 three
// and one.
//
// Blocks of half a vector of channels meet in pairs. acc[R][P]: R pixels, each broadcast, against P vectors of channels, as many as hide
// the latency of a product. A term of 4 x 4 is 12 loads and 16 products. Sums leave as those of tiles with lanes = channels do (store_run).
#include "gemm/kernel.hpp"
#include "gemm/pixel_tile.hpp"
#include "gemm/tile.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int most_tail = 4;      // pixels of a tile
constexpr int most_together = 8;  // vectors of channels

template <class T> constexpr int joined = lanes<T> / most_channels;  // weight blocks of a vector; 0: a block is wider than one
// With 16 registers products and weights leave room for eight sums and the pixels of four.
template <int R> constexpr int together = R == 1 ? most_together : R == 2 ? (wide ? 8 : 4) : (wide ? 4 : 2);

template <class T> NPCONV_INLINE Vec<T> weights_at(const T* w, [[maybe_unused]] std::ptrdiff_t pitch) {
    if constexpr (joined<T> == 2) return load_halves(w, w + pitch);
    else return load(w);
}

// `terms` of R pixels, `step` apart, against P vectors of channels, their weights `pitch` elements apart from block to block.
template <class T, int R, int P>
NPCONV_NOINLINE void vectors_sum(const T* x, std::ptrdiff_t step, std::int64_t terms, const T* w, std::ptrdiff_t pitch, bool accumulate, T* sums) {
    constexpr int L = lanes<T>, joins = joined<T>;
    Vec<T> acc[R][P];
    clear_sums<T>(acc);
    NPCONV_NO_UNROLL for (; terms > 0; --terms, x += step, w += most_channels) {
        Vec<T> weight[P];
        NPCONV_UNROLL for (int p = 0; p < P; ++p) weight[p] = weights_at<T>(w + p * joins * pitch, pitch);
        NPCONV_UNROLL for (int i = 0; i < R; ++i) {
            const Vec<T> pixel = set1(x[i]);
            NPCONV_UNROLL for (int p = 0; p < P; ++p) fma_into(acc[i][p], pixel, weight[p]);
        }
    }
    NPCONV_UNROLL for (int i = 0; i < R; ++i)
        NPCONV_UNROLL for (int p = 0; p < P; ++p) {
            T* const sum = sums + (i * P + p) * L;
            store(sum, accumulate ? add(load(sum), acc[i][p]) : acc[i][p]);
        }
}

// The same for one block of `channels`, fewer than a vector.
template <class T, int R>
NPCONV_NOINLINE void block_sum(const T* x, std::ptrdiff_t step, std::int64_t terms, const T* w, int channels, bool accumulate, T* sums) {
    constexpr int L = lanes<T>;
    const Mask<T> mask = mask_range<T>(0, channels);
    Vec<T> acc[R][1];
    clear_sums<T>(acc);
    NPCONV_NO_UNROLL for (; terms > 0; --terms, x += step, w += channels) {
        const Vec<T> weight = load_masked(w, mask);
        NPCONV_UNROLL for (int i = 0; i < R; ++i) fma_into(acc[i][0], set1(x[i]), weight);
    }
    NPCONV_UNROLL for (int i = 0; i < R; ++i) store(sums + i * L, accumulate ? add(load(sums + i * L), acc[i][0]) : acc[i][0]);
}

// R pixels from `pixel` of the row on against P vectors of channels, or, if P is 0, one block, from block j on.
template <class T, int R, int P> NPCONV_NOINLINE void tail_tile(const DenseSweep<T>& a, std::int64_t pixel, std::int64_t j) {
    constexpr int vectors = P ? P : 1, size = R * vectors * lanes<T>;
    alignas(64) T sums[2 * size + lanes<T> * vectors * lanes<T>];  // store_run() may read a vector's worth of pixels
    const std::int64_t first = j * most_channels, left = a.oc - first, most = P ? P * lanes<T> : most_channels;
    const std::int64_t channels = left < most ? left : most;
    const DenseSum& sum = a.sums.sums[0];
    const std::int64_t row = P ? most_channels : channels;  // of packed weights
    const T *x = a.x + pixel, *w = a.weights + first * a.terms;
    BlockCount<T> count;
    for (std::int64_t g = 0; g < sum.groups; ++g, x += sum.x_group, w += sum.w_group * row) {
        const DenseTerms& terms = sum.terms(g);
        for (std::int64_t from = 0; from < terms.all; from += dense_block) {
            const std::int64_t n = terms.all - from > dense_block ? dense_block : terms.all - from;
            const T *p = x + terms.term[from].x, *v = w + from * row;
            if constexpr (P > 0) vectors_sum<T, R, P>(p, terms.step, n, v, most_channels * a.terms, count.blocks > 0, sums);
            else block_sum<T, R>(p, terms.step, n, v, int(channels), count.blocks > 0, sums);
            count.next(sums, size);
        }
    }
    count.finish(sums, size);
    store_run<T, vectors>(a.store, sums, R, a.oc_first + first, channels, a.pixel + pixel);
}

template <class T, int R> NPCONV_INLINE void tail_pixels(const DenseSweep<T>& a, std::int64_t pixel, std::int64_t begin, std::int64_t end) {
    constexpr int most = together<R>, joins = joined<T>;
    const std::int64_t whole = a.oc / most_channels < end ? a.oc / most_channels : end;
    std::int64_t j = begin;
    const auto take = [&](int p) NPCONV_INLINE_LAMBDA { return whole - j >= p * joins; };
    if constexpr (most == 8)
        for (; take(8); j += 8 * joins) tail_tile<T, R, 8>(a, pixel, j);
    if constexpr (most >= 4)
        for (; take(4); j += 4 * joins) tail_tile<T, R, 4>(a, pixel, j);
    for (; take(2); j += 2 * joins) tail_tile<T, R, 2>(a, pixel, j);
    if (take(1)) {
        tail_tile<T, R, 1>(a, pixel, j);
        j += joins;
    }
    for (; j < end; ++j) tail_tile<T, R, 0>(a, pixel, j);
}

template <class T> void tail(const DenseSweep<T>& a, std::int64_t pixel, std::int64_t begin, std::int64_t end) {
    for (; a.row_pixels - pixel > most_tail; pixel += most_tail) tail_pixels<T, most_tail>(a, pixel, begin, end);
    switch (a.row_pixels - pixel) {
        case 1: return tail_pixels<T, 1>(a, pixel, begin, end);
        case 2: return tail_pixels<T, 2>(a, pixel, begin, end);
        case 3: return tail_pixels<T, 3>(a, pixel, begin, end);
        default: return tail_pixels<T, most_tail>(a, pixel, begin, end);
    }
}

template <class T> constexpr TailKernel<T> tail_kernel() {
    if constexpr (joined<T> > 0) return {lanes<T> / 2, tail<T>};
    else return {0, nullptr};
}

}  // namespace

extern const PerType<TailKernel> tail_kernels = {tail_kernel<float>(), tail_kernel<double>()};

}  // namespace npconv::NPCONV_THIS_ISA
