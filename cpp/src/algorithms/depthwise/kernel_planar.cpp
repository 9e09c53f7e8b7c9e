// Any kernel, stride and dilation over a padded planar strip of one channel: lanes = neighbouring outputs, R rows x NV
// vectors of accumulators (8x3, 4x4, 2x6, 1x8; with 16 registers 4x2, 2x4, 1x8). An input vector is loaded once for all
// rows that it meets (output rows dilation_h apart, so that input row i of the block is kernel row i - r of output row r);
// the triangles at the first and last R - 1 input rows are unrolled by the number of rows that they meet: no
// multiplication by a zero that stands for "outside", which would turn Inf into NaN. Horizontal stride: the strip keeps
// every stride-th column together. For few channels and large kernels; narrow maps of many channels belong to lanes.
// Zen 4, one core, peak 118 GFLOP/s, AVX-512, one channel of 512x512: k5 68, k7 80, k15 98; 64x56 k15: 87; a line of
// 65536 with 101 taps: 62 (one row: nothing is shared, every FMA loads, two thirds of the loads cross a cache line).
#include "algorithms/depthwise/planar.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// Scratch: tap offsets, row offsets, the strip with slack behind each row for full vectors.
template <class T> struct Layout {
    std::int64_t columns, n_rows, phase, row, slice;
    std::size_t offsets_at, strip_at, bytes;
    Layout(const Problem<T>& p, const Task& t) {
        columns = (t.x1 - t.x0 - 1) * p.sw + extent(p.kw, p.dw);
        n_rows = (t.y1 - t.y0 - 1) * p.sh + extent(p.kh, p.dh);
        phase = round_up((columns + p.sw - 1) / p.sw, 16) + most_vectors * lanes<T>;
        row = p.sw * phase;
        slice = n_rows * row;
        offsets_at = static_cast<std::size_t>(p.kw) * sizeof(std::int64_t);
        strip_at = static_cast<std::size_t>(
            round_up(std::int64_t(offsets_at) + n_rows * std::int64_t(sizeof(std::int64_t)), 64));
        bytes = strip_at + static_cast<std::size_t>(p.kd * slice) * sizeof(T);
    }
};

// `n` rows y, y + step, ... of output channel oc.
template <class T>
void output_rows(const Problem<T>& p, const Task& t, const Layout<T>& at, const std::int64_t* tap, const T* strip,
                 std::int64_t oc, std::int64_t y, std::int64_t n_rows, std::int64_t step) {
    constexpr int L = lanes<T>;
    const EpilogueArgs<T>& e = p.epilogue;
    const std::int64_t width = vectors_of(n_rows) * L;
    const Vec<T> scale = channel_scale(e, oc), bias = channel_bias(e, oc);
    const Simple<T> simple(e);
    const bool plain = is_simple(e);
    T* out = p.dst + t.n * p.dst_stride[0] + oc * p.dst_stride[1] + t.d * p.dst_stride[2];
    for (std::int64_t x = t.x0; x < t.x1; x += width) {
        const std::int64_t n = least(width, t.x1 - x);
        const Sum<T> s{strip + (y - t.y0) * p.sh * at.row + (x - t.x0), p.dh * at.row, at.slice, tap,
                       p.weights + oc * p.kd * p.kh * p.kw, p.kd, p.kh, p.kw, L};
        T sums[most_sums * L];
        std::int64_t nv = 0;
        sum_rows<T, false>(n_rows, (n + L - 1) / L, s, sums, nv);
        for (std::int64_t r = 0; r < n_rows; ++r)
            for (std::int64_t i = 0; i < n; i += L) {
                Vec<T> v = load(sums + r * nv * L + i);
                const std::int64_t row = y + r * step;
                if (plain) {
                    v = simple(v, scale, bias);
                } else {
                    Vec<T> residual = set1(T(0));
                    if (e.residual_kind != Residual::none)
                        residual = load_strided(residual_at(e, t.n, oc, t.d, row, x + i), e.residual_stride[4], n - i);
                    v = finish<T>(e, v, scale, bias, residual);
                }
                store_partial(out + row * p.dst_stride[3] + x + i, v, n - i);
            }
    }
}

template <class T> void run(const Problem<T>& p, const Task& t) {
    const Layout<T> at(p, t);
    char* scratch = static_cast<char*>(t.scratch);
    std::int64_t* tap = reinterpret_cast<std::int64_t*>(scratch);
    std::int64_t* offset = reinterpret_cast<std::int64_t*>(scratch + at.offsets_at);
    T* strip = reinterpret_cast<T*>(scratch + at.strip_at);
    for (std::int64_t k = 0; k < p.kw; ++k) tap[k] = k * p.dw % p.sw * at.phase + k * p.dw / p.sw;
    const RowBlocks<T> blocks(p);
    for (std::int64_t c = t.c; c < t.c + t.channels; ++c) {
        StripSource<T> source = strip_source(p, t.n, c, t.x0, t.x1);
        source.row_offset = offset;
        source.rows = at.n_rows;
        for (std::int64_t d = 0; d < p.kd; ++d) {
            for (std::int64_t i = 0; i < at.n_rows; ++i)
                offset[i] = row_offset(p, t.d * p.sd + d * p.dd, t.y0 * p.sh + i);
            p.strip.planar(source, 1, static_cast<int>(p.sw), strip + d * at.slice, 0, at.row, at.phase);
        }
        for (std::int64_t oc = c * p.multiplier; oc < (c + 1) * p.multiplier; ++oc)
            blocks.each(t, [&](std::int64_t y, std::int64_t n) { output_rows(p, t, at, tap, strip, oc, y, n, blocks.step); });
    }
}

template <class T> std::size_t scratch(const Problem<T>& p, const Task& t) { return Layout<T>(p, t).bytes; }

}  // namespace

extern const depthwise::Kernels depthwise_planar_kernels = {{run<float>, scratch<float>, pack_taps<float>},
                                                            {run<double>, scratch<double>, pack_taps<double>}};

}  // namespace npconv::NPCONV_THIS_ISA
