// The register tile of the planar and the interleaved path: R output rows x NV vectors, an input vector loaded once for
// all rows that it meets. Included by kernel files only.
#pragma once

#include "algorithms/depthwise/output.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

template <class T> struct Sum {
    const T* strip;         // kernel row 0 of output row 0, column 0
    std::int64_t row;       // from kernel row to kernel row
    std::int64_t slice;     // from kernel slice to kernel slice
    const std::int64_t* tap;  // column offset of each tap
    const T* weights;         // [tap], or [tap][lanes]
    std::int64_t kd, kh, kw;
    std::int64_t spacing;     // from vector to vector: L, or fewer if weights differ by lane
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
template <class T, int R, int NV, bool Blocks, bool ByLane, int R0, int R1>
NPCONV_INLINE void input_row(const Sum<T>& s, std::int64_t d, std::int64_t i, Vec<T> (&acc)[R][NV],
                             Totals<T, R, NV, Blocks>& totals) {
    constexpr int L = lanes<T>;
    const T* p = s.strip + d * s.slice + i * s.row;
    const T* w = s.weights + (d * s.kh + i - R0) * s.kw * (ByLane ? L : 1);
    const std::int64_t spacing = ByLane ? s.spacing : L;
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
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) x[v] = load(q + v * spacing);
            NPCONV_UNROLL for (int r = R0; r <= R1; ++r) {
                const std::int64_t at = k - (r - R0) * s.kw;
                const Vec<T> b = ByLane ? load(w + at * L) : set1(w[at]);
                NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] = fma(x[v], b, acc[r][v]);
            }
        }
        if (!Blocks) break;
    }
}

template <class T, int R, int NV, bool Blocks, bool ByLane, int I>
NPCONV_INLINE void first_rows(const Sum<T>& s, std::int64_t d, Vec<T> (&acc)[R][NV], Totals<T, R, NV, Blocks>& totals) {
    if constexpr (I < R - 1) {
        input_row<T, R, NV, Blocks, ByLane, 0, I>(s, d, I, acc, totals);
        first_rows<T, R, NV, Blocks, ByLane, I + 1>(s, d, acc, totals);
    }
}
template <class T, int R, int NV, bool Blocks, bool ByLane, int I>
NPCONV_INLINE void last_rows(const Sum<T>& s, std::int64_t d, Vec<T> (&acc)[R][NV], Totals<T, R, NV, Blocks>& totals) {
    if constexpr (I < R - 1) {
        input_row<T, R, NV, Blocks, ByLane, I + 1, R - 1>(s, d, s.kh + I, acc, totals);
        last_rows<T, R, NV, Blocks, ByLane, I + 1>(s, d, acc, totals);
    }
}

// Sums of R rows x NV vectors to sums[R][NV][L]; kh >= R.
template <class T, int R, int NV, bool Blocks, bool ByLane>
NPCONV_NOINLINE void sum_tile(const Sum<T>& s, T* sums) {
    constexpr int L = lanes<T>;
    Vec<T> acc[R][NV];
    Totals<T, R, NV, Blocks> totals;
    NPCONV_UNROLL for (int r = 0; r < R; ++r)
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] = set1(T(0));
    for (std::int64_t d = 0; d < s.kd; ++d) {
        first_rows<T, R, NV, Blocks, ByLane, 0>(s, d, acc, totals);
        NPCONV_NO_UNROLL for (std::int64_t i = R - 1; i < s.kh; ++i)
            input_row<T, R, NV, Blocks, ByLane, 0, R - 1>(s, d, i, acc, totals);
        last_rows<T, R, NV, Blocks, ByLane, 0>(s, d, acc, totals);
    }
    NPCONV_UNROLL for (int r = 0; r < R; ++r)
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) {
            const int at = (r * NV + v) * L;
            if constexpr (Blocks)
                acc[r][v] = add(load(totals.level[1] + at), add(load(totals.level[0] + at), acc[r][v]));
            store(sums + at, acc[r][v]);
        }
}

constexpr std::int64_t most_sums = 24;  // vectors of the largest tile

template <class T, bool Blocks, bool ByLane>
NPCONV_INLINE void sum_tile_of(std::int64_t rows, std::int64_t vectors, const Sum<T>& s, T* sums, std::int64_t& nv) {
#define NPCONV_TILE(R, NV) (nv = NV, sum_tile<T, R, NV, Blocks, ByLane>(s, sums))
    if constexpr (registers >= 32) {
        if (rows == 8) return vectors == 1 ? NPCONV_TILE(8, 1) : vectors == 2 ? NPCONV_TILE(8, 2) : NPCONV_TILE(8, 3);
        if (rows == 4) return vectors <= 2 ? NPCONV_TILE(4, 2) : NPCONV_TILE(4, 4);
        if (rows == 2) return vectors <= 2 ? NPCONV_TILE(2, 2) : NPCONV_TILE(2, 6);
    } else {
        if (rows >= 4) return vectors == 1 ? NPCONV_TILE(4, 1) : NPCONV_TILE(4, 2);
        if (rows == 2) return vectors <= 2 ? NPCONV_TILE(2, 2) : NPCONV_TILE(2, 4);
    }
    return vectors <= 1 ? NPCONV_TILE(1, 1) : vectors <= 4 ? NPCONV_TILE(1, 4) : NPCONV_TILE(1, 8);
#undef NPCONV_TILE
}

// The widest tile of `rows` rows.
NPCONV_INLINE std::int64_t vectors_of(std::int64_t rows) {
    if (registers >= 32) return rows == 8 ? 3 : rows == 4 ? 4 : rows == 2 ? 6 : 8;
    return rows >= 4 ? 2 : rows == 2 ? 4 : 8;
}
constexpr std::int64_t most_vectors = 8;

// Sums of `rows` rows x up to vectors_of(rows) vectors; nv is the row length of `sums` in vectors.
template <class T, bool ByLane>
NPCONV_INLINE void sum_rows(std::int64_t rows, std::int64_t vectors, const Sum<T>& s, T* sums, std::int64_t& nv) {
    if (s.kd * s.kh * s.kw > block_terms) sum_tile_of<T, true, ByLane>(rows, vectors, s, sums, nv);
    else sum_tile_of<T, false, ByLane>(rows, vectors, s, sums, nv);
}

// How many rows a tile may take, and how far they are apart: rows share input rows only with vertical stride 1, then
// `dh` apart.
template <class T> struct RowBlocks {
    std::int64_t step, at_most;
    explicit RowBlocks(const Problem<T>& p)
        : step(p.sh == 1 ? p.dh : 1), at_most(p.sh == 1 ? least(least(p.rows, p.kh), registers >= 32 ? 8 : 4) : 1) {}
    // body(y, rows) for all rows of the task.
    template <class F> NPCONV_INLINE void each(const Task& t, const F& body) const {
        for (std::int64_t y0 = t.y0; y0 < least(t.y0 + step, t.y1); ++y0)
            for (std::int64_t r = 8, y = y0; r >= 1; r /= 2) {
                if (r > at_most) continue;
                for (; y + (r - 1) * step < t.y1; y += r * step) body(y, r);
            }
    }
};

}  // namespace
}  // namespace npconv::NPCONV_THIS_ISA
