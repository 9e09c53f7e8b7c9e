// The transforms with lanes = channels, and the stores of finished rows.
#include "algorithms/winograd/kernel.hpp"

#include "algorithms/winograd/points.hpp"
#include "isa/this_isa.hpp"
#include "isa/simd_epilogue.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// How far value (i, j) of a tile is from the first; without phases values are points, which are evenly apart.
template <class Transform> NPCONV_INLINE std::int64_t place(const std::int64_t* where, int i, int j) {
    const int value = i * Transform::values + j;
    return Transform::values == Transform::points ? value * where[1] : where[value];
}

// 9 taps of L output channels -> the values of a tile.
template <class T, class Transform>
NPCONV_INLINE void filter_tile(const Vec<T> (&g)[9], T* u, const std::int64_t* where) {
    constexpr int A = Transform::values;
    Vec<T> t[3][A];
    NPCONV_UNROLL for (int j = 0; j < 3; ++j) {
        const Vec<T> column[3] = {g[j], g[3 + j], g[6 + j]};
        Transform::template filter<T>(column, t[j]);
    }
    NPCONV_UNROLL for (int i = 0; i < A; ++i) {
        const Vec<T> row[3] = {t[0][i], t[1][i], t[2][i]};
        Vec<T> o[A];
        Transform::template filter<T>(row, o);
        NPCONV_UNROLL for (int j = 0; j < A; ++j) store(u + place<Transform>(where, i, j), o[j]);
    }
}

template <class T, class Transform>
void filter(const T* taps, std::int64_t oc_stride, std::int64_t ic_stride, const std::int64_t* offset,
            std::int64_t count, std::int64_t channels, T* u, const std::int64_t* where, std::int64_t u_step) {
    constexpr int L = lanes<T>;
    bool dense = channels == L && ic_stride == 9;
    for (int t = 0; t < 9; ++t) dense = dense && offset[t] == t;
    alignas(64) T buffer[9 * L * L];  // [input channel][tap][lane], L input channels at a time
    for (std::int64_t i0 = 0; i0 < count; i0 += L) {
        const std::int64_t n = count - i0 < L ? count - i0 : L;
        if (dense && n == L) {  // one run of 9 L elements per output channel: transpose it in squares
            for (int q = 0; q < 9; ++q) {
                Vec<T> r[L];
                NPCONV_UNROLL for (int o = 0; o < L; ++o) r[o] = load(taps + o * oc_stride + i0 * 9 + q * L);
                transpose(r);
                NPCONV_UNROLL for (int o = 0; o < L; ++o) store(buffer + (q * L + o) * L, r[o]);
            }
        } else {
            for (std::int64_t o = 0; o < L; ++o)
                for (std::int64_t i = 0; i < n; ++i)
                    for (int t = 0; t < 9; ++t)
                        buffer[(i * 9 + t) * L + o] =
                            o < channels ? taps[o * oc_stride + (i0 + i) * ic_stride + offset[t]] : T(0);
        }
        for (std::int64_t i = 0; i < n; ++i, u += u_step) {
            Vec<T> g[9];
            NPCONV_UNROLL for (int t = 0; t < 9; ++t) g[t] = load(buffer + (i * 9 + t) * L);
            filter_tile<T, Transform>(g, u, where);
        }
    }
}

template <class T, class Transform> void extend(T* slab, std::int64_t along, std::int64_t across, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) Transform::template extend<T>(slab + i * across, along);
}

// A part of the points' rows of one tile, all of its columns in a ring of 2 M columns: neighbouring tiles share two
// columns, so that two tiles go round the ring. (F(4x4), 512 bits: 61 ns a tile without the ring, 53 with it, 43 with
// two parts that stay in registers.)
template <class T, int M, int Part> struct InputPart {
    static constexpr int A = M + 2, L = lanes<T>, rows = A / Points<M>::parts;
    Vec<T> ring[rows][2 * M];

    // Vertical transforms of columns [Begin, A) of the tile whose first column has place First.
    template <int First, int Begin> NPCONV_INLINE void columns(const T* slab, std::int64_t pitch) {
        NPCONV_UNROLL for (int j = Begin; j < A; ++j) {
            Vec<T> d[A], o[rows];
            NPCONV_UNROLL for (int i = 0; i < A; ++i) d[i] = load(slab + i * pitch + j * L);
            if constexpr (Points<M>::parts == 1)
                Points<M>::template input<T>(d, o);
            else
                Points<M>::template input_part<T, Part>(d, o);
            NPCONV_UNROLL for (int i = 0; i < rows; ++i) ring[i][(First + j) % (2 * M)] = o[i];
        }
    }
    template <int First> NPCONV_INLINE void finish(T* v, std::int64_t v_point) const {
        NPCONV_UNROLL for (int i = 0; i < rows; ++i) {
            Vec<T> d[A], o[A];
            NPCONV_UNROLL for (int j = 0; j < A; ++j) d[j] = ring[i][(First + j) % (2 * M)];
            Points<M>::template input<T>(d, o);
            NPCONV_UNROLL for (int j = 0; j < A; ++j) store(v + ((Part * rows + i) * A + j) * v_point, o[j]);
        }
    }
    static NPCONV_INLINE void run(const T* slab, std::int64_t pitch, std::int64_t tiles, T* v, std::int64_t v_point) {
        InputPart p;
        p.template columns<0, 0>(slab, pitch);
        p.template finish<0>(v, v_point);
        for (std::int64_t t = 1; t < tiles; t += 2) {
            p.template columns<M, 2>(slab + t * M * L, pitch);
            p.template finish<M>(v + t * L, v_point);
            if (t + 1 == tiles) break;
            p.template columns<0, 2>(slab + (t + 1) * M * L, pitch);
            p.template finish<0>(v + (t + 1) * L, v_point);
        }
    }
};

template <class T, int M>
void input(const T* slab, std::int64_t pitch, std::int64_t tiles, T* v, const std::int64_t* where) {
    InputPart<T, M, 0>::run(slab, pitch, tiles, v, where[1]);
    if constexpr (Points<M>::parts == 2) InputPart<T, M, 1>::run(slab, pitch, tiles, v, where[1]);
}

// Neighbouring tiles share one column only: each is transformed by itself, through a square in L1.
template <class T, int M>
void input_polyphase(const T* slab, std::int64_t pitch, std::int64_t tiles, T* v, const std::int64_t* where) {
    using Transform = PolyphasePoints<M>;
    constexpr int A = Transform::values, L = lanes<T>;
    alignas(64) T square[A * A * L];  // [value row][column]
    for (; tiles > 0; --tiles, slab += 2 * M * L, v += L) {
        for (int j = 0; j < A; ++j) {
            Vec<T> d[A], o[A];
            NPCONV_UNROLL for (int i = 0; i < A; ++i) d[i] = load(slab + i * pitch + j * L);
            Transform::template input<T>(d, o);
            NPCONV_UNROLL for (int i = 0; i < A; ++i) store(square + (i * A + j) * L, o[i]);
        }
        for (int i = 0; i < A; ++i) {
            Vec<T> d[A], o[A];
            NPCONV_UNROLL for (int j = 0; j < A; ++j) d[j] = load(square + (i * A + j) * L);
            Transform::template input<T>(d, o);
            NPCONV_UNROLL for (int j = 0; j < A; ++j) store(v + where[i * A + j], o[j]);
        }
    }
}

template <class T, class Transform>
bool output(const T* m, std::int64_t m_point, std::int64_t tiles, T* slab, std::int64_t pitch, std::uint8_t* nonfinite) {
    constexpr int A = Transform::points, M = Transform::m, L = lanes<T>;
    bool any = false;
    m += tiles * L;
    slab += tiles * M * L;
    nonfinite += tiles;
    for (; tiles > 0; --tiles) {
        m -= L;
        slab -= M * L;
        Vec<T> t[M][A];
        NPCONV_UNROLL for (int j = 0; j < A; ++j) {
            Vec<T> d[A], y[M];
            NPCONV_UNROLL for (int i = 0; i < A; ++i) d[i] = load(m + (i * A + j) * m_point);
            Transform::template output<T>(d, y);
            NPCONV_UNROLL for (int i = 0; i < M; ++i) t[i][j] = y[i];
        }
        const Vec<T> zero = set1(T(0));
        Vec<T> check = zero;  // 0 * y is zero for finite y, NaN otherwise
        NPCONV_UNROLL for (int i = 0; i < M; ++i) {
            Vec<T> y[M];
            Transform::template output<T>(t[i], y);
            NPCONV_UNROLL for (int j = 0; j < M; ++j) {
                store(slab + i * pitch + j * L, y[j]);
                check = fma(zero, y[j], check);
            }
        }
        const bool bad = any_nonfinite(check);
        any = any || bad;
        *--nonfinite = bad;
    }
    return any;
}

// A clamp for an activation: scale and bias are applied while lanes = channels, before a transpose. Residual: one that is
// added before the activation and is dense along columns. Whole vectors are aligned where all channels can be.
template <class T, bool Residual>
void planar_simple(const WinogradStore<T>& s, std::int64_t rows, std::int64_t columns) {
    constexpr int L = lanes<T>;
    const Simple<T> simple(s.epilogue);
    const Vec<T> scale = channels_scale(s.epilogue, s.oc, s.channels), bias = channels_bias(s.epilogue, s.oc, s.channels);
    for (std::int64_t y = 0; y < rows; ++y) {
        const std::int64_t lead = s.channel_stride % L == 0 ? unaligned(s.dst + y * s.row_stride) : 0;
        for (std::int64_t x = 0, n; x < columns; x += n) {
            n = x == 0 && lead ? lead : L;
            if (n > columns - x) n = columns - x;
            Vec<T> r[L];
            NPCONV_UNROLL for (int i = 0; i < L; ++i) r[i] = fma(load(s.slab + y * s.pitch + (x + i) * L), scale, bias);
            transpose(r);
            T* d = s.dst + y * s.row_stride + x;
            const T* residual = Residual ? s.residual + y * s.residual_row + x : nullptr;
            if (n == L && s.channels == L) {
                NPCONV_UNROLL for (int c = 0; c < L; ++c) {
                    if constexpr (Residual) r[c] = add(r[c], load(residual + c * s.residual_channel));
                    store(d + c * s.channel_stride, simple.clamp(r[c]));
                }
            } else {
                NPCONV_UNROLL for (int c = 0; c < L; ++c) {
                    if (c >= s.channels) continue;
                    if constexpr (Residual) r[c] = add(r[c], load_partial(residual + c * s.residual_channel, n));
                    store_partial(d + c * s.channel_stride, simple.clamp(r[c]), n);
                }
            }
        }
    }
}

template <class T> void planar_general(const WinogradStore<T>& s) {
    constexpr int L = lanes<T>;
    for (std::int64_t x = 0; x < s.columns; x += L) {
        const std::int64_t n = s.columns - x < L ? s.columns - x : L;
        for (std::int64_t y = 0; y < s.rows; ++y) {
            Vec<T> r[L];
            NPCONV_UNROLL for (int i = 0; i < L; ++i) r[i] = load(s.slab + y * s.pitch + (x + i) * L);
            transpose(r);
            alignas(64) T square[L * L];
            NPCONV_UNROLL for (int i = 0; i < L; ++i) store(square + i * L, r[i]);
            T* d = s.dst + y * s.row_stride + x;
            for (std::int64_t c = 0; c < s.channels; ++c, d += s.channel_stride) {
                Vec<T> residual = set1(T(0));
                if (s.residual)
                    residual = load_strided(s.residual + c * s.residual_channel + y * s.residual_row + x * s.residual_column,
                                            s.residual_column, n);
                const Vec<T> v = finish(s.epilogue, load(square + c * L), channel_scale(s.epilogue, s.oc + c),
                                        channel_bias(s.epilogue, s.oc + c), residual);
                if (n == L) store(d, v); else store_partial(d, v, n);
            }
        }
    }
}

template <class T> void planar(const WinogradStore<T>& s) {
    const bool residual = s.residual != nullptr;
    if (!is_clamp(s.epilogue.activation) || (residual && (s.epilogue.residual_kind != Residual::before || s.residual_column != 1)))
        return planar_general(s);
    // Rows without gaps, in the slab and in dst: one long row has fewer ends.
    const bool dense = s.row_stride == s.columns && s.pitch == s.columns * lanes<T> &&
                       (!residual || s.residual_row == s.columns);
    const std::int64_t rows = dense ? 1 : s.rows, columns = dense ? s.rows * s.columns : s.columns;
    if (residual)
        planar_simple<T, true>(s, rows, columns);
    else
        planar_simple<T, false>(s, rows, columns);
}

template <class T> void lanes_simple(const WinogradStore<T>& s) {
    constexpr int L = lanes<T>;
    const Simple<T> simple(s.epilogue);
    const Vec<T> scale = channels_scale(s.epilogue, s.oc, s.channels), bias = channels_bias(s.epilogue, s.oc, s.channels);
    for (std::int64_t y = 0; y < s.rows; ++y) {
        const T* from = s.slab + y * s.pitch;
        T* d = s.dst + y * s.row_stride;
        if (s.channels == L)
            for (std::int64_t x = 0; x < s.columns; ++x)
                store(d + x * s.column_stride, simple(load(from + x * L), scale, bias));
        else
            for (std::int64_t x = 0; x < s.columns; ++x)
                store_partial(d + x * s.column_stride, simple(load(from + x * L), scale, bias), s.channels);
    }
}

template <class T> void lanes_store(const WinogradStore<T>& s) {
    if (is_clamp(s.epilogue.activation) && !s.residual) return lanes_simple(s);
    constexpr int L = lanes<T>;
    const Vec<T> scale = channels_scale(s.epilogue, s.oc, s.channels), bias = channels_bias(s.epilogue, s.oc, s.channels);
    for (std::int64_t y = 0; y < s.rows; ++y)
        for (std::int64_t x = 0; x < s.columns; ++x) {
            Vec<T> residual = set1(T(0));
            if (s.residual)
                residual = load_strided(s.residual + y * s.residual_row + x * s.residual_column, s.residual_channel,
                                        s.channels);
            const Vec<T> v = finish(s.epilogue, load(s.slab + y * s.pitch + x * L), scale, bias, residual);
            store_partial(s.dst + y * s.row_stride + x * s.column_stride, v, s.channels);
        }
}

}  // namespace

#define NPCONV_TRANSFORMS(T, f) f<T, Points<2>>, f<T, Points<4>>, f<T, PolyphasePoints<2>>, f<T, PolyphasePoints<4>>
#define NPCONV_KERNELS(T)                                                                          \
    {                                                                                              \
        {NPCONV_TRANSFORMS(T, filter)}, {extend<T, Points<4>>, extend<T, PolyphasePoints<4>>},     \
            {input<T, 2>, input<T, 4>, input_polyphase<T, 2>, input_polyphase<T, 4>},              \
            {NPCONV_TRANSFORMS(T, output)}, planar<T>, lanes_store<T>                              \
    }

extern const WinogradKernels winograd_kernels = {NPCONV_KERNELS(float), NPCONV_KERNELS(double)};

}  // namespace npconv::NPCONV_THIS_ISA
