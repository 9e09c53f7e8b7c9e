// F(4x4, 3x3) without points in memory: see few.hpp. With three input channels a unit and an output channel take 154
// multiplications, most with an addition, 70 additions alone, and 54 loads of V, 108 of U, 24 of waiting columns. Loads were the
// limit when each channel loaded V for itself; the loop over columns has no vector on the stack: Zen 3, AVX2, in L2 180 cycles (243
// before), 1.5 times the direct sum's speed; vectors of output channels 205, two tiles at a time no faster. AVX-512 on Zen 4 took
// 250 to 265 with everything in registers, 1.7 times the direct sum's speed; this order has not been timed there.
#include "algorithms/winograd/few.hpp"

#include "algorithms/winograd/points.hpp"
#include "isa/this_isa.hpp"
#include "isa/simd_epilogue.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

using V = Vec<float>;
using Transform = Points<4>;
constexpr int L = lanes<float>, groups = 4, tile = 6;
// Output channels from the fetch of a line to its store: one is over before memory has brought it (Zen 3, 3x224 -> 64: 2600 us
// with none, 2360 with one, 2110 with two, 2140 with three; quiet minutes).
constexpr int fetch_ahead = 2;

// Inverse transform whose output i is a^-i of the true one, so that three of its twelve operations have a constant, not six: what
// two of them lack, a^(row + column), is part of the epilogue. The last point of filters carries its a^-3.
constexpr double ratio = Transform::b / Transform::a;
constexpr float last_point = float(1 / (Transform::a2 * Transform::a));
constexpr float powers[7] = {1,
                             float(Transform::a),
                             float(Transform::a2),
                             float(Transform::a2 * Transform::a),
                             float(Transform::a2 * Transform::a2),
                             float(Transform::a2 * Transform::a2 * Transform::a),
                             float(Transform::a2 * Transform::a2 * Transform::a2)};
NPCONV_INLINE void inverse(const V (&m)[tile], V (&y)[4]) {
    const V ea = add(m[1], m[2]), oa = sub(m[1], m[2]), eb = add(m[3], m[4]), ob = sub(m[3], m[4]);
    y[0] = add(m[0], add(ea, eb));
    y[1] = fma(set1(float(ratio)), ob, oa);
    y[2] = fma(set1(float(ratio * ratio)), eb, ea);
    y[3] = fma(set1(float(ratio * ratio * ratio)), ob, add(oa, m[5]));
}

float filter(const float* taps, std::int64_t oc_stride, std::int64_t ic_stride, const std::int64_t* offset, std::int64_t ocs,
             std::int64_t channels, bool lanes_are_channels, float* u) {
    V largest = set1(0.f), check = set1(0.f);
    float points[L];
    const std::int64_t size = tile * tile * channels, step = lanes_are_channels ? L : 1;
    if (lanes_are_channels && ocs % L)
        for (std::int64_t i = 0; i < size; ++i) store(u + (ocs / L * size + i) * L, set1(0.f));
    for (std::int64_t o = 0; o < ocs; ++o) {
        float* const first = u + (lanes_are_channels ? o / L * L * size + o % L : o * size);
        for (std::int64_t c = 0; c < channels; ++c) {
            V columns[3][tile];  // one value in all lanes
            for (int j = 0; j < 3; ++j) {
                V g[3];
                for (int i = 0; i < 3; ++i) g[i] = set1(taps[o * oc_stride + c * ic_stride + offset[i * 3 + j]]);
                Transform::filter<float>(g, columns[j]);
                columns[j][5] = mul(columns[j][5], set1(last_point));
            }
            for (int i = 0; i < tile; ++i) {
                const V row[3] = {columns[0][i], columns[1][i], columns[2][i]};
                V out[tile];
                Transform::filter<float>(row, out);
                out[5] = mul(out[5], set1(last_point));
                for (int j = 0; j < tile; ++j) {
                    largest = max(largest, abs(out[j]));
                    check = fma(set1(0.f), out[j], check);
                    store(points, out[j]);
                    first[((j * tile + i) * channels + c) * step] = points[0];
                }
            }
        }
    }
    return any_nonfinite(check) ? __builtin_nanf("") : (store(points, largest), points[0]);
}

float input(const WinogradFewInput& in, const WinogradFewUnit& unit, float* v) {
    V largest = set1(0.f), check = set1(0.f);
    for (std::int64_t c = 0; c < in.channels; ++c) {
        const float* strip = in.strip + c * in.channel_stride;
        alignas(64) float lined[tile][tile][L], vertical[tile][tile][L];  // [row][column], [column][point row]
        for (int i = 0; i < tile; ++i) {
            V front[groups], back[groups];
            for (int g = 0; g < groups; ++g) {
                const float* p = strip + unit.group[g].source + i * in.row_stride;
                front[g] = load(p);
                back[g] = load(p + 4);
            }
            unweave(front);
            unweave(back);
            for (int j = 0; j < 4; ++j) store(lined[i][j], front[j]);
            for (int j = 0; j < 2; ++j) store(lined[i][4 + j], back[j]);
        }
        for (int j = 0; j < tile; ++j) {
            V d[tile], t[tile];
            for (int i = 0; i < tile; ++i) d[i] = load(lined[i][j]);
            Transform::input<float>(d, t);
            for (int i = 0; i < tile; ++i) store(vertical[j][i], t[i]);
        }
        for (int i = 0; i < tile; ++i) {
            V d[tile], t[tile];
            for (int j = 0; j < tile; ++j) d[j] = load(vertical[j][i]);
            Transform::input<float>(d, t);
            for (int j = 0; j < tile; ++j) {
                largest = max(largest, abs(t[j]));
                check = fma(set1(0.f), t[j], check);
                store(v + ((j * tile + i) * in.channels + c) * L, t[j]);
            }
        }
    }
    if (any_nonfinite(check)) return __builtin_nanf("");
    float values[L], most = 0;
    store(values, largest);
    for (float value : values) most = value > most ? value : most;
    return most;
}

// The products of a column of points, summed over the channels, and their vertical inverse transform, for N sets of scalars that
// lie `other` apart and meet the same vectors: each is loaded once. What all six columns give waits in L1.
template <int C, int Step, int N>
NPCONV_INLINE void column_sums(const float* vectors, const float* scalars, std::ptrdiff_t other, float (&sums)[N][4][tile][L]) {
    NPCONV_NO_UNROLL for (int j = 0; j < tile; ++j, vectors += tile * C * L, scalars += tile * C * Step) {
        const float* set[N];
        NPCONV_UNROLL for (int n = 0; n < N; ++n) {
            set[n] = scalars + n * other;
            if (n > 0) NPCONV_OPAQUE(set[n]);  // or each of its scalars has an offset of its own, in a register or on the stack
        }
        V m[N][tile];
        NPCONV_UNROLL for (int i = 0; i < tile; ++i)
            NPCONV_UNROLL for (int c = 0; c < C; ++c) {
                const V v = load(vectors + (i * C + c) * L);
                NPCONV_UNROLL for (int n = 0; n < N; ++n) {
                    const V s = set1(set[n][(i * C + c) * Step]);
                    if (c == 0)
                        m[n][i] = mul(v, s);
                    else
                        fma_into(m[n][i], v, s);
                }
            }
        NPCONV_UNROLL for (int n = 0; n < N; ++n) {
            V y[4];
            inverse(m[n], y);
            NPCONV_UNROLL for (int r = 0; r < 4; ++r) store(sums[n][r][j], y[r]);
        }
    }
}

// Row r of the outputs, before their epilogue; with bias and, if `scaled`, scale.
NPCONV_INLINE void output_row(const float (&sums)[4][tile][L], int r, V (&y)[4]) {
    V m[tile];
    NPCONV_UNROLL for (int j = 0; j < tile; ++j) m[j] = load(sums[r][j]);
    inverse(m, y);
}
NPCONV_INLINE void finish_row(int r, bool scaled, V scale, V bias, V (&y)[4]) {
    if (scaled) {
        NPCONV_UNROLL for (int q = 0; q < 4; ++q) y[q] = fma(mul(y[q], set1(powers[r + q])), scale, bias);
    } else {
        NPCONV_UNROLL for (int q = 0; q < 4; ++q) y[q] = fma(y[q], set1(powers[r + q]), bias);
    }
}

// Whole: every group has four rows of L columns; else what exists is stored row by row. Plain: bias and a clamp.
template <int C, bool Whole, bool Plain> NPCONV_NOINLINE void channels(const WinogradFewOutput& out, const WinogradFewUnit& unit) {
    alignas(64) float sums[2][4][tile][L];
    const Simple<float> simple(out.epilogue);
    float *dst[groups], *ahead[groups];
    for (int g = 0; g < groups; ++g) {
        dst[g] = out.dst + unit.group[g].dst;
        ahead[g] = dst[g] + fetch_ahead * out.channel_stride;
    }
    for (std::int64_t o = 0; o < out.ocs; ++o) {
        const std::int64_t at = o * out.channel_stride;
        if (Whole && out.fetch) {
            if (o + fetch_ahead == out.ocs)
                for (int g = 0; g < groups; ++g) ahead[g] = out.dst + unit.group[g].next - at;
            NPCONV_UNROLL for (int g = 0; g < groups; ++g)
                NPCONV_UNROLL for (int r = 0; r < 4; ++r) prefetch_write(ahead[g] + at + r * out.row_stride);
        }
        if (o % 2 == 0) column_sums<C, 1, 2>(out.v, out.u + o * tile * tile * C, o + 1 < out.ocs ? tile * tile * C : 0, sums);
        const V bias = channel_bias(out.epilogue, out.oc + o), scale = channel_scale(out.epilogue, out.oc + o);
        NPCONV_UNROLL for (int r = 0; r < 4; ++r) {
            V y[4];
            output_row(sums[o % 2], r, y);
            if constexpr (Plain) {
                finish_row(r, false, scale, bias, y);
                if (simple.clamps) NPCONV_UNROLL for (int q = 0; q < 4; ++q) y[q] = simple.clamp(y[q]);
            } else {
                NPCONV_UNROLL for (int q = 0; q < 4; ++q) y[q] = mul(y[q], set1(powers[r + q]));
            }
            unweave(y);
            if constexpr (Whole) {
                NPCONV_UNROLL for (int g = 0; g < groups; ++g) store(dst[g] + at + r * out.row_stride, y[g]);
                continue;
            }
            alignas(64) float rows[groups][L];
            NPCONV_UNROLL for (int g = 0; g < groups; ++g) store(rows[g], y[g]);
            for (int g = 0; g < unit.groups; ++g) {
                const WinogradFewGroup& group = unit.group[g];
                if (r >= group.rows) continue;
                V value = load(rows[g]);
                if constexpr (!Plain) {
                    V residual = set1(0.f);
                    if (out.residual)
                        residual = load_strided(out.residual + o * out.residual_channel + group.residual + r * out.residual_row,
                                               out.residual_column, group.columns);
                    value = finish<float>(out.epilogue, value, scale, bias, residual);
                }
                store_partial(dst[g] + at + r * out.row_stride, value, group.columns);
            }
        }
    }
}

template <int C> NPCONV_INLINE void planes_of(const WinogradFewOutput& out, const WinogradFewUnit& unit) {
    bool whole = unit.groups == groups;
    for (int g = 0; g < unit.groups; ++g) whole = whole && unit.group[g].rows == 4 && unit.group[g].columns == L;
    if (!is_simple(out.epilogue) || out.epilogue.scale) return channels<C, false, false>(out, unit);
    if (whole) return channels<C, true, true>(out, unit);
    channels<C, false, true>(out, unit);
}

// One tile and all output channels, a vector of them at a time. Meanwhile the lines of the next tile are fetched.
template <int C>
NPCONV_NOINLINE void pixels_of_tile(const WinogradFewOutput& out, const float* v, std::int64_t rows, std::int64_t columns, std::int64_t to,
                                    std::int64_t residual_of_tile, std::int64_t ahead) {
    alignas(64) float sums[1][4][tile][L];
    const Simple<float> simple(out.epilogue);
    const bool plain = rows == 4 && columns == 4 && is_simple(out.epilogue), scaled = out.epilogue.scale != nullptr;
    const float* u = out.u;
    for (std::int64_t o = 0; o < out.ocs; o += L, u += tile * tile * C * L) {
        if (out.fetch && o * sizeof(float) % 64 == 0) {
            const float* line = out.dst + ahead + o;
            NPCONV_UNROLL for (int r = 0; r < 4; ++r)
                NPCONV_UNROLL for (int q = 0; q < 4; ++q) prefetch_write(line + r * out.row_stride + q * out.column_stride);
        }
        const std::int64_t n = out.ocs - o < L ? out.ocs - o : L;
        column_sums<C, L, 1>(u, v, 0, sums);
        const V scale = channels_scale(out.epilogue, out.oc + o, n), bias = channels_bias(out.epilogue, out.oc + o, n);
        float* dst = out.dst + to + o;
        if (plain && n == L) {
            NPCONV_UNROLL for (int r = 0; r < 4; ++r, dst += out.row_stride) {
                V y[4];
                output_row(sums[0], r, y);
                finish_row(r, scaled, scale, bias, y);
                if (simple.clamps) NPCONV_UNROLL for (int q = 0; q < 4; ++q) y[q] = simple.clamp(y[q]);
                NPCONV_UNROLL for (int q = 0; q < 4; ++q) store(dst + q * out.column_stride, y[q]);
            }
            continue;
        }
        for (int r = 0; r < rows; ++r, dst += out.row_stride) {
            V y[4];
            output_row(sums[0], r, y);
            for (std::int64_t q = 0; q < columns; ++q) {
                V residual = set1(0.f);
                const std::int64_t at = residual_of_tile + r * out.residual_row + q * out.residual_column;
                if (out.residual) residual = load_strided(out.residual + o * out.residual_channel + at, out.residual_channel, n);
                const V value = mul(y[q], set1(powers[r + q]));
                store_partial(dst + q * out.column_stride, finish<float>(out.epilogue, value, scale, bias, residual), n);
            }
        }
    }
}

template <int C> NPCONV_INLINE void pixels_of(const WinogradFewOutput& out, const WinogradFewUnit& unit) {
    for (int g = 0; g < unit.groups; ++g) {
        const WinogradFewGroup& group = unit.group[g];
        for (int k = 0; 4 * k < group.columns; ++k) {
            const std::int64_t left = group.columns - 4 * k, to = group.dst + 4 * k * out.column_stride;
            const std::int64_t next = left > 4 ? to + 4 * out.column_stride : g + 1 < unit.groups ? unit.group[g + 1].dst : unit.group[0].next;
            pixels_of_tile<C>(out, out.v + 4 * k + g, group.rows, left < 4 ? left : 4, to, group.residual + 4 * k * out.residual_column, next);
        }
    }
}

#define NPCONV_BY_CHANNELS(WHAT)                                                \
    void WHAT(const WinogradFewOutput& out, const WinogradFewUnit& unit) {      \
        switch (out.channels) {                                                 \
            case 1: return WHAT##_of<1>(out, unit);                             \
            case 2: return WHAT##_of<2>(out, unit);                             \
            case 3: return WHAT##_of<3>(out, unit);                             \
            default: return WHAT##_of<4>(out, unit);                            \
        }                                                                       \
    }
NPCONV_BY_CHANNELS(planes)
NPCONV_BY_CHANNELS(pixels)
#undef NPCONV_BY_CHANNELS

}  // namespace

extern const WinogradFewKernels winograd_few_kernels = {L, filter, input, planes, pixels};

}  // namespace npconv::NPCONV_THIS_ISA
