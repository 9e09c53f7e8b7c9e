// Packing for the dense sweeps: weight blocks [term][channel] and im2col panels [tile][term][pixel].
#include "gemm/kernel.hpp"
#include "gemm/tile.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// `terms` neighbouring terms of up to lanes channels, dense in memory over the terms: lanes x lanes transposes.
template <class T>
NPCONV_INLINE void pack_transposed(const T* src, std::int64_t oc_stride, std::int64_t channels, std::int64_t columns,
                                   std::int64_t terms, T* dst, std::int64_t width, Vec<T>& check) {
    constexpr int L = lanes<T>;
    const Vec<T> zero = set1(T(0));
    for (std::int64_t t = 0; t < terms; t += L) {
        const std::int64_t m = terms - t;
        Vec<T> r[L];
        NPCONV_UNROLL for (int c = 0; c < L; ++c)
            r[c] = c >= channels ? set1(T(0)) : m >= L ? load(src + c * oc_stride + t) : load_partial(src + c * oc_stride + t, m);
        transpose(r);
        NPCONV_UNROLL for (int k = 0; k < L; ++k) {
            if (k >= m) continue;
            check = fma(zero, r[k], check);
            if (columns == L) store(dst + (t + k) * width, r[k]); else store_partial(dst + (t + k) * width, r[k], columns);
        }
    }
}

// Blocks half a vector wide: two runs of terms share a transpose, and neighbouring terms a store. Returns how many terms
// that took.
template <class T>
NPCONV_INLINE std::int64_t pack_half(const T* src, std::int64_t oc_stride, std::int64_t terms, T* dst, Vec<T>& check) {
    constexpr int L = lanes<T>, H = L / 2;
    const Vec<T> zero = set1(T(0));
    std::int64_t t = 0;
    for (; t + 2 * L <= terms; t += 2 * L) {
        Vec<T> r[L];
        NPCONV_UNROLL for (int c = 0; c < H; ++c) {
            r[c] = load(src + c * oc_stride + t);
            r[H + c] = load(src + c * oc_stride + t + L);
        }
        transpose(r);
        NPCONV_UNROLL for (int k = 0; k < L; k += 2) {
            Vec<T> lo, hi;
            join_halves(r[k], r[k + 1], lo, hi);
            check = fma(zero, lo, fma(zero, hi, check));
            store(dst + (t + k) * H, lo);
            store(dst + (t + L + k) * H, hi);
        }
    }
    return t;
}

// Dense over channels: one vector a term. Anything else: element by element.
template <class T>
NPCONV_INLINE void pack_term(const T* src, std::int64_t oc_stride, std::int64_t channels, std::int64_t columns, T* dst,
                             Vec<T>& check) {
    Vec<T> r;
    if (oc_stride == 1) {
        r = load_partial(src, channels);
    } else {
        T column[lanes<T>] = {};
        for (std::int64_t c = 0; c < channels; ++c) column[c] = src[c * oc_stride];
        r = load(column);
    }
    check = fma(set1(T(0)), r, check);
    store_partial(dst, r, columns);
}

template <class T> bool weights(const DenseWeights<T>& w, std::int64_t first, std::int64_t width, T* dst) {
    constexpr int L = lanes<T>;
    const std::int64_t terms = w.size[0] * w.size[1] * w.size[2] * w.size[3];
    bool dense = true;
    std::int64_t run = 1;
    for (int i = 3; i >= 0; run *= w.size[i--]) dense = dense && (w.size[i] == 1 || w.stride[i] == run);
    Vec<T> check = set1(T(0));  // NaN as soon as something isn't finite
    for (std::int64_t c = 0; c < width; c += L) {
        const std::int64_t columns = width - c < L ? width - c : L, left = w.oc - first - c;
        const std::int64_t channels = left < 0 ? 0 : left < columns ? left : columns;
        const T* src = w.data + (first + c) * w.oc_stride;
        T* d = dst + c;
        if (dense) {
            const bool half = 2 * width == L && channels == width;
            const std::int64_t done = half ? pack_half(src, w.oc_stride, terms, d, check) : 0;
            pack_transposed(src + done, w.oc_stride, channels, columns, terms - done, d + done * width, width, check);
            continue;
        }
        for (std::int64_t i = 0; i < w.size[0]; ++i)
            for (std::int64_t z = 0; z < w.size[1]; ++z)
                for (std::int64_t y = 0; y < w.size[2]; ++y)
                    for (std::int64_t x = 0; x < w.size[3]; ++x, d += width)
                        pack_term(src + i * w.stride[0] + z * w.stride[1] + y * w.stride[2] + x * w.stride[3], w.oc_stride,
                                  channels, columns, d, check);
    }
    return any_nonfinite(check);
}

// Term by term for all blocks: rows a power of two apart share a set of L1, which keeps none of their lines for a next block (calls
// of 256x14 -> 1024, 512x7 -> 2048, 160x7 -> 960 took 1.2, 1.3 and 1.8 times as long block by block, Zen 3).
template <class T> void half_blocks(const DenseWeights<T>& w, std::int64_t first, std::int64_t blocks, T* dst) {
    constexpr int H = lanes<T> / 2;
    const T* src = w.data + first;
    for (std::int64_t t = 0; t < w.size[0]; ++t, src += w.stride[0], dst += H)
        for (std::int64_t b = 0; b < blocks; ++b)
            NPCONV_UNROLL for (int i = 0; i < H; ++i) dst[b * H * w.size[0] + i] = src[b * H + i];
}

// Where the pixels of a term come from and go to: pieces that lie in one run and in one tile, in the order of the pixels.
template <class T> NPCONV_INLINE std::int64_t cut_pieces(const DenseExpansion<T>& e) {
    const std::int64_t n = e.rows * e.width, granules = tiles_of(n, e.granule), tiles = tiles_of(granules, e.pixels / e.granule);
    std::int64_t count = 0, pixel = 0;
    for (std::int64_t i = 0; i < tiles; ++i) {
        const std::int64_t begin = pixel, next = tile_begin(granules, tiles, i + 1) * e.granule, end = next < n ? next : n;
        while (pixel < end) {
            const std::int64_t row = pixel / e.width, column = pixel % e.width;
            const std::int64_t size = end - pixel < e.width - column ? end - pixel : e.width - column;
            e.pieces[count++] = {row * e.row_stride + column, i * e.tile + pixel - begin, size};
            pixel += size;
        }
    }
    return count;
}

template <class T> NPCONV_INLINE void copy_exactly(const T* src, T* dst, std::int64_t n) {
    constexpr int L = lanes<T>;
    for (; n >= L; n -= L, src += L, dst += L) store(dst, load(src));
    if (n > 0) store_partial(dst, load_partial(src, n), n);
}

// Whole vectors: what they bring behind a piece, the next piece or the next term overwrites. Hence the last term is copied
// exactly, as another call may already have written what follows; and so is what nobody may read behind a single run.
// V: vectors of a term of a tile, which most pieces are.
template <class T, int V> NPCONV_NOINLINE void expand_tiles(const DenseExpansion<T>& e) {
    constexpr int L = lanes<T>;
    const std::int64_t pieces = cut_pieces(e);
    std::int64_t whole = pieces;
    while (e.rows == 1 && whole > 0 && e.pieces[whole - 1].from + (e.pieces[whole - 1].size + L - 1) / L * L > e.width) --whole;
    T* to = e.panel;
    for (std::int64_t c = 0; c < e.channels; ++c)
        for (std::int64_t t = 0; t < e.taps; ++t, to += V * L) {
            const T* const src = e.x + c * e.channel_stride + e.tap[t];
            const bool last = c + 1 == e.channels && t + 1 == e.taps;
            const DensePiece *p = e.pieces, *const end = p + pieces, *const exact = last ? p : p + whole;
            for (; p < exact; ++p) {
                const T* from = src + p->from;
                T* dst = to + p->to;
                if (p->size > (V - 1) * L) {
                    NPCONV_UNROLL for (int v = 0; v < V; ++v) store(dst + v * L, load(from + v * L));
                } else {
                    for (T* const stop = dst + p->size; dst < stop; dst += L, from += L) store(dst, load(from));
                }
            }
            for (; p < end; ++p) copy_exactly(src + p->from, to + p->to, p->size);
        }
}

template <class T> void expand(const DenseExpansion<T>& e) {
    e.slots == lanes<T> ? expand_tiles<T, 1>(e) : e.slots == 2 * lanes<T> ? expand_tiles<T, 2>(e) : expand_tiles<T, 3>(e);
}

}  // namespace

extern const PerType<PackKernels> dense_pack_kernels = {{weights<float>, half_blocks<float>, expand<float>},
                                                        {weights<double>, half_blocks<double>, expand<double>}};

}  // namespace npconv::NPCONV_THIS_ISA
