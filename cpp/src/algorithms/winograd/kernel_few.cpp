// F(4x4, 3x3) with lanes = tiles: see few.hpp. A unit and one of 64 output channels take 250 to 265 cycles for three input
// channels (of which 168 are multiplications, 108 loads of V and 108 of U beside them): 1.7 times the direct sum's speed.
#include "algorithms/winograd/few.hpp"

#include "algorithms/winograd/points.hpp"
#include "isa/this_isa.hpp"
#include "isa/simd_epilogue.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

using V = Vec<float>;
using Transform = Points<4>;
constexpr int L = lanes<float>, groups = 4, tile = 6;

float filter(const float* taps, std::int64_t oc_stride, std::int64_t ic_stride, const std::int64_t* offset, std::int64_t ocs,
             std::int64_t channels, float* u) {
    V largest = set1(0.f), check = set1(0.f);
    float points[L];
    for (std::int64_t o = 0; o < ocs; ++o)
        for (std::int64_t c = 0; c < channels; ++c) {
            V columns[3][tile];  // one value in all lanes
            for (int j = 0; j < 3; ++j) {
                V g[3];
                for (int i = 0; i < 3; ++i) g[i] = set1(taps[o * oc_stride + c * ic_stride + offset[i * 3 + j]]);
                Transform::filter<float>(g, columns[j]);
            }
            for (int i = 0; i < tile; ++i) {
                const V row[3] = {columns[0][i], columns[1][i], columns[2][i]};
                V out[tile];
                Transform::filter<float>(row, out);
                for (int j = 0; j < tile; ++j) {
                    largest = max(largest, abs(out[j]));
                    check = fma(set1(0.f), out[j], check);
                    store(points, out[j]);
                    u[((o * tile + j) * tile + i) * channels + c] = points[0];
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

// The products of one column of points, summed over the channels, and their vertical inverse transform.
template <int C> NPCONV_INLINE void column(const float* v, const float* u, V (&y)[4]) {
    V m[tile];
    NPCONV_UNROLL for (int i = 0; i < tile; ++i) m[i] = mul(load(v + i * C * L), set1(u[i * C]));
    NPCONV_UNROLL for (int c = 1; c < C; ++c)
        NPCONV_UNROLL for (int i = 0; i < tile; ++i) m[i] = fma(load(v + (i * C + c) * L), set1(u[i * C + c]), m[i]);
    Transform::output<float>(m, y);
}

// The horizontal inverse transform takes the columns as they come: 0, the pairs +-a and +-b, infinity.
template <int C> NPCONV_INLINE void sums(const float* v, const float* u, V (&y)[4][4]) {
    constexpr int next = tile * C;
    V p[4], q[4];
    column<C>(v, u, p);
    NPCONV_UNROLL for (int r = 0; r < 4; ++r) y[r][0] = p[r];
    column<C>(v + next * L, u + next, p);
    column<C>(v + 2 * next * L, u + 2 * next, q);
    NPCONV_UNROLL for (int r = 0; r < 4; ++r) {
        const V even = add(p[r], q[r]), odd = sub(p[r], q[r]);
        y[r][0] = add(y[r][0], even);
        y[r][1] = mul(set1(float(Transform::a)), odd);
        y[r][2] = mul(set1(float(Transform::a2)), even);
        y[r][3] = mul(set1(float(Transform::a2 * Transform::a)), odd);
    }
    column<C>(v + 3 * next * L, u + 3 * next, p);
    column<C>(v + 4 * next * L, u + 4 * next, q);
    NPCONV_UNROLL for (int r = 0; r < 4; ++r) {
        const V even = add(p[r], q[r]), odd = sub(p[r], q[r]);
        y[r][0] = add(y[r][0], even);
        y[r][1] = fma(set1(float(Transform::b)), odd, y[r][1]);
        y[r][2] = fma(set1(float(Transform::b2)), even, y[r][2]);
        y[r][3] = fma(set1(float(Transform::b2 * Transform::b)), odd, y[r][3]);
    }
    column<C>(v + 5 * next * L, u + 5 * next, p);
    NPCONV_UNROLL for (int r = 0; r < 4; ++r) y[r][3] = add(y[r][3], p[r]);
}

NPCONV_INLINE V residual_of(const WinogradFewOutput& out, const float* p, std::int64_t n) {
    if (out.residual_column == 1) return load_partial(p, n);
    float values[L] = {};
    for (std::int64_t i = 0; i < n; ++i) values[i] = p[i * out.residual_column];
    return load(values);
}

// Whole: every group has four rows of L columns; else what exists is stored row by row. Plain: bias and a clamp.
template <int C, bool Whole, bool Plain> NPCONV_NOINLINE void channels(const WinogradFewOutput& out, const WinogradFewUnit& unit) {
    const Simple<float> simple(out.epilogue);
    const float* u = out.u;
    float* dst[groups];
    for (int g = 0; g < groups; ++g) dst[g] = out.dst + unit.group[g].dst;
    for (std::int64_t o = 0; o < out.ocs; ++o, u += tile * tile * C) {
        const std::int64_t at = o * out.channel_stride;
        if (Whole && out.fetch) {
            NPCONV_UNROLL for (int g = 0; g < groups; ++g)
                NPCONV_UNROLL for (int r = 0; r < 4; ++r) prefetch_write(dst[g] + at + r * out.row_stride);
        }
        V y[4][4];
        sums<C>(out.v, u, y);
        const V bias = channel_bias(out.epilogue, out.oc + o), scale = channel_scale(out.epilogue, out.oc + o);
        NPCONV_UNROLL for (int r = 0; r < 4; ++r) {
            if constexpr (Plain) {
                NPCONV_UNROLL for (int q = 0; q < 4; ++q) y[r][q] = simple.clamp(add(y[r][q], bias));
            }
            unweave(y[r]);
        }
        if constexpr (Whole && Plain) {
            NPCONV_UNROLL for (int r = 0; r < 4; ++r)
                NPCONV_UNROLL for (int g = 0; g < groups; ++g) store(dst[g] + at + r * out.row_stride, y[r][g]);
        } else {
            alignas(64) float rows[4][groups][L];
            NPCONV_UNROLL for (int r = 0; r < 4; ++r)
                NPCONV_UNROLL for (int g = 0; g < groups; ++g) store(rows[r][g], y[r][g]);
            for (int g = 0; g < unit.groups; ++g) {
                const WinogradFewGroup& group = unit.group[g];
                for (std::int64_t r = 0; r < group.rows; ++r) {
                    V value = load(rows[r][g]);
                    if constexpr (!Plain) {
                        V residual = set1(0.f);
                        if (out.residual)
                            residual = residual_of(out, out.residual + o * out.residual_channel + group.residual + r * out.residual_row,
                                                   group.columns);
                        value = finish<float>(out.epilogue, value, scale, bias, residual);
                    }
                    store_partial(dst[g] + at + r * out.row_stride, value, group.columns);
                }
            }
        }
    }
}

template <int C> NPCONV_INLINE void output_of(const WinogradFewOutput& out, const WinogradFewUnit& unit) {
    bool whole = unit.groups == groups;
    for (int g = 0; g < unit.groups; ++g) whole = whole && unit.group[g].rows == 4 && unit.group[g].columns == L;
    if (!is_simple(out.epilogue) || out.epilogue.scale) return channels<C, false, false>(out, unit);
    if (whole) return channels<C, true, true>(out, unit);
    channels<C, false, true>(out, unit);
}

void output(const WinogradFewOutput& out, const WinogradFewUnit& unit) {
    switch (out.channels) {
        case 1: return output_of<1>(out, unit);
        case 2: return output_of<2>(out, unit);
        case 3: return output_of<3>(out, unit);
        default: return output_of<4>(out, unit);
    }
}

}  // namespace

extern const WinogradFewKernels winograd_few_kernels = {L, filter, input, output};

}  // namespace npconv::NPCONV_THIS_ISA
