// One register tile with lanes = output pixels: acc[MR][NV], the loops over its terms, and how its sums leave the registers. Included by
// kernel_pixels.hpp, which makes chunks of tiles.
//
// The weights of a single call can be read where the caller holds them (`InRows`, `Either`), each channel a stream: in four terms 85
// instructions instead of 82 (AVX2), three of which reload a distance from the stack, and no pass over the weights, which takes 5 % where
// pixels are few (14x14, 7x7; pairs in bench/RESULTS.md).
#pragma once

#include "gemm/kernel.hpp"
#include "gemm/tile.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr bool wide = registers == 32;
constexpr int most_channels = wide ? 8 : 4;
constexpr int most_vectors = 3;
// Of weights, to L1; what the next block of channels needs goes to L2. A line is two terms, of which one fetches either, or one, which fetches both.
constexpr int ahead_bytes = 1024;
constexpr bool fetch_weights = wide;  // a term of 12 products has no room for it: AVX2 gains 2 to 6 % without
// Terms at a time: 23 instructions each, not 26, for 12 products; 20 where terms lie evenly apart and need no list.
constexpr int unroll = wide ? 1 : 4;
// Whether a weight block meets the pixels where they are, or copies them as it does, or finds the copies of the first.
enum class Staging { none, copies, finds };

// One tile's share of one block of terms, and where it goes: on top of `sums` or not, to `sums` or, if `straight`, from the
// registers to rows of pixels, with at most a clamp for an activation and no residual.
template <class T> struct Work {
    const DenseTerm *term, *end;
    const T* x;
    std::ptrdiff_t step;   // from term to term, if they lie evenly apart; else 0
    std::ptrdiff_t ahead;  // with 32 registers, of lists: from these pixels to some that are needed later; 0: all are near
    int tiles;             // how many follow one another, tile_step apart in X and side by side in the output
    std::ptrdiff_t tile_step;
    const T* even;         // pixels of the first term of those that lie evenly apart
    bool staged;           // they are copies, or are copied
    T* stage;              // where they are copied to
    const T* next;         // pixels that are fetched, those of a term every four terms, next_step apart
    std::ptrdiff_t next_step;
    const T* w;
    std::ptrdiff_t weight_row;  // see DenseSweep
    int blocks = 1;             // of channels that follow one another; one with 16 registers or if the tile copies pixels
    std::ptrdiff_t w_block;     // from block to block
    T* sums;
    std::ptrdiff_t sums_block = 0;  // to those of the next block of channels
    bool in_order, accumulate, straight, fetch;
    std::ptrdiff_t fetch_from, fetch_last = 0;  // lines that are fetched for writing, from dst; with the last block
    T* dst;
    std::int64_t channel_stride, pixels;
    Straight<T> epilogue;

    // What doesn't change from tile to tile of a block; a sum of several blocks leaves what the last of them has.
    NPCONV_INLINE void set_output(const DenseStore<T>& s, std::int64_t oc) {
        channel_stride = s.channel_stride;
        epilogue.set(s.epilogue, oc);
    }
    NPCONV_INLINE void next_block(int channels, bool last) {
        w += w_block;
        sums += sums_block;
        dst += channels * channel_stride;
        if (epilogue.scale) epilogue.scale += channels;
        if (epilogue.bias) epilogue.bias += channels;
        if (last) fetch_from = fetch_last;
    }
};

// Whether even_sums() is the one that sums. With 32 registers lists are faster where pixels are not
// copied and weights packed: 24x56 -> 144 k1 lost a sixth without.
template <class T> NPCONV_INLINE bool takes_evenly(const Work<T>& work) {
    if (wide && !work.weight_row && !work.staged) return false;
    return work.step && work.term < work.end;
}

template <class T, int MR, int NV> NPCONV_INLINE void store_straight(const Work<T>& work, T* dst, Vec<T> (&acc)[MR][NV]) {
    constexpr int L = lanes<T>;
    const T *scale = work.epilogue.scale, *bias = work.epilogue.bias;
    if (scale) {
        NPCONV_UNROLL for (int i = 0; i < MR; ++i) {
            NPCONV_OPAQUE(scale);
            const Vec<T> s = set1(scale[i]), b = set1(bias ? bias[i] : T(0));
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = fma(acc[i][v], s, b);
        }
    } else if (bias) {
        add_rows<T>(acc, bias);
    }
    work.epilogue.clamp(acc);
    const std::int64_t stride = work.channel_stride, last = work.pixels - (NV - 1) * L;
    if (last == L) return store_whole<T>(dst, stride, acc);
    NPCONV_UNROLL for (int i = 0; i < MR; ++i, dst += stride) {
        NPCONV_UNROLL for (int v = 0; v < NV - 1; ++v) store(dst + v * L, acc[i][v]);
        store_partial(dst + (NV - 1) * L, acc[i][NV - 1], last);
    }
}

template <class T, int MR, int NV> NPCONV_INLINE void clear_sums(Vec<T> (&acc)[MR][NV]) {
    NPCONV_UNROLL for (int i = 0; i < MR; ++i)
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = set1(T(0));
}
template <class T, int MR, int NV> NPCONV_INLINE void fetch_rows(const Work<T>& work, const T* dst) {
    dst += work.fetch_from;
    NPCONV_UNROLL for (int i = 0; i < MR; ++i, dst += work.channel_stride)
        NPCONV_UNROLL for (int b = 0; b < NV * lanes<T> * int(sizeof(T)); b += 64) prefetch_write(reinterpret_cast<const char*>(dst) + b);
}

template <class T, int MR, int NV> NPCONV_INLINE void put_sums(const Work<T>& work, T* dst, Vec<T> (&acc)[MR][NV]) {
    constexpr int L = lanes<T>;
    T* const sums = work.sums;
    if (work.accumulate) {
        NPCONV_UNROLL for (int i = 0; i < MR; ++i)
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = add(load(sums + (i * NV + v) * L), acc[i][v]);
    }
    if (work.straight) return store_straight<T, MR, NV>(work, dst, acc);
    NPCONV_UNROLL for (int i = 0; i < MR; ++i)
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) store(sums + (i * NV + v) * L, acc[i][v]);
}
// Where the sums of tiles that follow one another go. Whole tiles of finished sums leave with a minimum of instructions: what lies
// between the products of two tiles keeps those of the second out of the queues.
template <class T, int MR, int NV> struct Output {
    const Work<T>& work;
    T* dst;
    const std::int64_t stride;
    const T* const bias;
    const bool plain;
    int tiles;

    NPCONV_INLINE explicit Output(const Work<T>& w)
        : work(w), dst(w.dst), stride(w.channel_stride), bias(w.epilogue.bias), plain(is_plain(w)), tiles(w.tiles) {}
    static NPCONV_INLINE bool is_plain(const Work<T>& w) {
        if (MR < most_channels || w.pixels != NV * lanes<T>) return false;
        return w.straight && !w.accumulate && !w.fetch && !w.epilogue.scale;
    }
    NPCONV_INLINE void begin(Vec<T> (&acc)[MR][NV]) {
        if (!plain && work.fetch) fetch_rows<T, MR, NV>(work, dst);
        clear_sums<T>(acc);
    }
    // Returns whether another tile follows.
    NPCONV_INLINE bool put(Vec<T> (&acc)[MR][NV]) {
        if (plain) {
            if (bias) add_rows<T>(acc, bias);
            work.epilogue.clamp(acc);
            store_whole<T>(dst, stride, acc);
        } else {
            put_sums<T>(work, dst, acc);
        }
        dst += NV * lanes<T>;
        return --tiles > 0;
    }
};
// From the weight of one channel to those of the others, in bytes, and of one term to the next, in elements: side by side, or as
// the caller holds them, `row` apart.
struct Packed {
    NPCONV_INLINE Packed(std::ptrdiff_t, std::ptrdiff_t, int) {}
    NPCONV_INLINE std::ptrdiff_t ahead() const { return ahead_bytes; }
    template <int MR> NPCONV_INLINE std::ptrdiff_t term() const { return MR; }
    template <class T> NPCONV_INLINE const T* at(const T* weight, int i) const { return weight + i; }
    NPCONV_INLINE void hide() {}
};
struct InRows {
    std::ptrdiff_t step[4];
    NPCONV_INLINE InRows(std::ptrdiff_t row, std::ptrdiff_t, int) : step{0, row, 2 * row, 3 * row} {}
    NPCONV_INLINE std::ptrdiff_t ahead() const { return 0; }
    template <int MR> NPCONV_INLINE std::ptrdiff_t term() const { return 1; }
    template <class T> NPCONV_INLINE const T* at(const T* weight, int i) const {
        return i == 0 ? weight : reinterpret_cast<const T*>(reinterpret_cast<const char*>(weight) + step[i]);
    }
    // Sums of them and constants belong into addresses, not into registers, of which there are too few.
    NPCONV_INLINE void hide() {
        NPCONV_OPAQUE(step[1]);
        NPCONV_OPAQUE(step[2]);
        NPCONV_OPAQUE(step[3]);
    }
};
// Either, in one loop: 24 products hide what that takes, and two loops for each of 24 tiles are too much code.
struct Either {
    std::ptrdiff_t step[4], four, to_next, fetched;  // rows are streams that the CPU fetches
    NPCONV_INLINE Either(std::ptrdiff_t row, std::ptrdiff_t item, int channels)
        : four(4 * (row ? row : item)), to_next(row ? 1 : channels), fetched(row ? 0 : ahead_bytes) {
        NPCONV_UNROLL for (int i = 0; i < 4; ++i) step[i] = i * (row ? row : item);
    }
    NPCONV_INLINE std::ptrdiff_t ahead() const { return fetched; }
    template <int MR> NPCONV_INLINE std::ptrdiff_t term() const { return to_next; }
    template <class T> NPCONV_INLINE const T* at(const T* weight, int i) const {
        const char* from = reinterpret_cast<const char*>(weight) + (i < 4 ? 0 : four);
        return reinterpret_cast<const T*>(i % 4 == 0 ? from : from + step[i % 4]);
    }
    NPCONV_INLINE void hide() {
        NPCONV_OPAQUE(step[1]);
        NPCONV_OPAQUE(step[2]);
        NPCONV_OPAQUE(step[3]);
        NPCONV_OPAQUE(four);
    }
};
template <bool Wide> struct Layouts { using SideBySide = Packed; using Rows = InRows; };
template <> struct Layouts<true> { using SideBySide = Either; using Rows = Either; };
using SideBySide = Layouts<wide>::SideBySide;
using Rows = Layouts<wide>::Rows;

// Which weights a term fetches: of those that are used soon, or of the next block of channels.
struct NearWeights { static constexpr bool far = false; };
struct FarWeights { static constexpr bool far = true; };

template <class T, int MR, int NV, bool Copies = false, bool Far = false, class Channels>
NPCONV_INLINE void add_term(Vec<T> (&acc)[MR][NV], const T* p, const T* row, const Channels& channels, [[maybe_unused]] T* stage = nullptr,
                            [[maybe_unused]] std::ptrdiff_t next_block = 0) {
    constexpr int L = lanes<T>;
    constexpr bool whole_line = MR * sizeof(T) >= 64;
    if constexpr (fetch_weights && (Far || whole_line)) prefetch_l2(row + next_block);
    if constexpr (fetch_weights && (!Far || whole_line)) prefetch(reinterpret_cast<const char*>(row) + channels.ahead());
    Vec<T> pixels[NV];
    NPCONV_UNROLL for (int v = 0; v < NV; ++v) pixels[v] = load(p + v * L);
    if constexpr (Copies) {
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) store(stage + v * L, pixels[v]);
    }
    NPCONV_UNROLL for (int i = 0; i < MR; ++i) {
        const Vec<T> weight = set1(*channels.at(row, i));
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) fma_into(acc[i][v], weight, pixels[v]);
    }
}

// Pixels that are needed later: to L2 where blocks of channels find copies, which fill L1 (with pixels fetched to L1 256x56 -> 64 k1 loses
// 3 %), else to L1, the two lines in which a tile of three vectors lies (32x112 -> 16 and 96x56 -> 24 gain 4 %).
template <Staging S, int NV, class T> NPCONV_INLINE void fetch_pixels(const T* next) {
    constexpr int bytes = NV * lanes<T> * int(sizeof(T));
    if constexpr (S == Staging::copies) return;
    if constexpr (wide) {
        NPCONV_UNROLL for (int b = 0; b < bytes; b += 64) prefetch_l2(reinterpret_cast<const char*>(next) + b);
    } else if constexpr (S == Staging::finds) {
        prefetch_l2(next);
    } else {
        prefetch(next);
        prefetch(reinterpret_cast<const char*>(next) + bytes / 2);
    }
}

// Sums of MR channels x NV vectors over terms that lie evenly apart, of as many tiles as follow one another, and with 32 registers then of
// more blocks of channels: a call and what it reads take as long as two or three terms of a tile. (With 16, whose loops fill all registers, gcc
// would then move two sums and load pixels twice: 90 instructions for 48 products, not 82.)
template <class T, int MR, int NV, Staging S, class Channels> NPCONV_NOINLINE void even_sums(Work<T>& work) {
    constexpr int L = lanes<T>;
    constexpr bool copies = S == Staging::copies;
    Channels channels(work.weight_row * std::ptrdiff_t(sizeof(T)), sizeof(T), MR);
    const std::ptrdiff_t W = channels.template term<MR>();
    const std::ptrdiff_t step = work.step, three = 3 * step, next_step = work.next_step;
    const std::ptrdiff_t next_block = work.weight_row ? 0 : work.w_block;
    T* stage = work.stage;
    for (int block = 1;; ++block) {
        const T* const first = work.w + std::int64_t(work.term->w) * W;
        const T *const end = first + (work.end - work.term) * W, *const last = end - 3 * W;
        const T *even = work.even, *fetched = work.next;
        Output<T, MR, NV> output(work);
        Vec<T> acc[MR][NV];
        do {
            output.begin(acc);
            const T *p = even, *row = first, *next = fetched;
            const auto add = [&](const T* pixels, const T* weights, auto which) NPCONV_INLINE_LAMBDA {
                add_term<T, MR, NV, copies, decltype(which)::far>(acc, pixels, weights, channels, stage, next_block);
                if constexpr (copies) stage += NV * L;
            };
            NPCONV_NO_UNROLL for (; row < last; p += 4 * step, row += 4 * W) {
                fetch_pixels<S, NV>(next);
                next += next_step;
                channels.hide();
                add(p, row, NearWeights());
                add(p + step, row + W, FarWeights());
                add(p + 2 * step, row + 2 * W, NearWeights());
                add(p + three, row + 3 * W, FarWeights());
            }
            NPCONV_NO_UNROLL for (; row < end; p += step, row += W) add(p, row, NearWeights());
            even += work.tile_step;
            fetched += NV * L;
        } while (output.put(acc));
        if (!wide || copies || block >= work.blocks) return;
        work.next_block(MR, block + 1 == work.blocks);
    }
}

// The same over any block of terms, with packed weights.
template <class T, int MR, int NV> NPCONV_NOINLINE void list_sums(Work<T>& work) {
    constexpr int L = lanes<T>;
    const DenseTerm *const begin = work.term, *const end = work.end;
    std::ptrdiff_t ahead = work.ahead;
    const Packed packed(0, 0, MR);
    const bool by_rows = unroll > 1 && work.in_order && begin < end;
    for (int block = 1;; ++block) {
        const T *const w = work.w, *x = work.x;
        Output<T, MR, NV> output(work);
        Vec<T> acc[MR][NV];
        do {
            output.begin(acc);
            const DenseTerm* t = begin;
            if (by_rows) {
                const T* row = w + std::int64_t(t->w) * MR;
                NPCONV_NO_UNROLL for (; end - t >= unroll; t += unroll, row += unroll * MR)
                    NPCONV_UNROLL for (int u = 0; u < unroll; ++u) add_term<T>(acc, x + t[u].x, row + u * MR, packed);
            }
            NPCONV_NO_UNROLL for (; t < end; ++t) {
                const T* p = x + t->x;
                if (wide && ahead) {
                    NPCONV_UNROLL for (int b = 0; b < NV * L * int(sizeof(T)); b += 64)
                        prefetch(reinterpret_cast<const char*>(p + ahead) + b);
                }
                add_term<T>(acc, p, w + std::int64_t(t->w) * MR, packed);
            }
            x += work.tile_step;
        } while (output.put(acc));
        if (!wide || block >= work.blocks) return;
        ahead = 0;
        work.next_block(MR, block + 1 == work.blocks);
    }
}

template <class T> using TileSum = void (*)(Work<T>&);

// The loops over terms by vectors, from 1: of lists, of terms evenly apart.
template <class T, int MR> struct Lists {
    static constexpr TileSum<T> of[most_vectors] = {list_sums<T, MR, 1>, list_sums<T, MR, 2>, list_sums<T, MR, 3>};
};
template <class T, int MR, Staging S, class Channels> struct Even {
    static constexpr TileSum<T> of[most_vectors] = {even_sums<T, MR, 1, S, Channels>, even_sums<T, MR, 2, S, Channels>,
                                                    even_sums<T, MR, 3, S, Channels>};
};
template <class T, int MR> NPCONV_INLINE const TileSum<T>* tile_sums(const Work<T>& work, int channels) {
    if constexpr (MR > 1)
        if (channels < MR) return tile_sums<T, MR - 1>(work, channels);
    if (work.weight_row) return Even<T, MR, Staging::none, Rows>::of;
    return takes_evenly(work) ? Even<T, MR, Staging::none, SideBySide>::of : Lists<T, MR>::of;
}
template <class T> NPCONV_INLINE const TileSum<T>* tile_sums(const Work<T>& work, int channels, Staging staging) {
    constexpr int most = most_channels;
    if (staging == Staging::copies)  // by the first of several blocks, which is a whole one
        return work.weight_row ? Even<T, most, Staging::copies, Rows>::of : Even<T, most, Staging::copies, SideBySide>::of;
    if (!wide && staging == Staging::finds && channels == most)
        return work.weight_row ? Even<T, most, Staging::finds, Rows>::of : Even<T, most, Staging::finds, SideBySide>::of;
    return tile_sums<T, most>(work, channels);
}

}  // namespace
}  // namespace npconv::NPCONV_THIS_ISA
