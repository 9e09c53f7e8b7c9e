// nhwc images of few channels (RGB), horizontal stride 1: lanes = as many whole pixels as fit, 5 of 3 channels in 16 lanes.
// A row of pixels is one row of elements, a tap lies `dilation * channels` elements further, and the weights differ by lane
// with a period that divides the vectors' spacing: the planar tile with weights loaded instead of broadcast, no transposes.
#include "algorithms/depthwise/planar.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// Scratch: scale and bias by lane, tap offsets, the padded strip with slack behind each row for full vectors.
template <class T> struct Layout {
    std::int64_t pixels, columns, n_rows, row, slice;  // pixels of a vector; columns of the strip, in pixels
    std::size_t taps_at, strip_at, bytes;
    Layout(const Problem<T>& p, const Task& t) {
        constexpr std::int64_t L = lanes<T>;
        pixels = L / p.channels;
        columns = t.x1 - t.x0 - 1 + extent(p.kw, p.dw);
        n_rows = (t.y1 - t.y0 - 1) * p.sh + extent(p.kh, p.dh);
        row = round_up(columns * p.channels, 16) + most_vectors * L;
        slice = n_rows * row;
        taps_at = 2 * L * sizeof(T);
        strip_at = static_cast<std::size_t>(round_up(std::int64_t(taps_at) + p.kw * std::int64_t(sizeof(std::int64_t)), 64));
        bytes = strip_at + static_cast<std::size_t>(p.kd * slice) * sizeof(T);
    }
};

template <class T> NPCONV_INLINE void copy_elements(const T* from, T* to, std::int64_t n) {
    for (std::int64_t i = 0; i < n; i += lanes<T>) store_partial(to + i, load_partial(from + i, n - i), n - i);
}

// One padded row; `offset` of its first pixel or constant_row.
template <class T>
void fill_row(const Problem<T>& p, const Task& t, const Layout<T>& at, std::int64_t offset, T* to) {
    const std::int64_t C = p.channels, pixel = p.src_stride[4];
    const T* row = p.src + t.n * p.src_stride[0] + offset;
    const std::int32_t* map = p.w_map + t.x0;
    if (offset == constant_row) {
        for (std::int64_t i = 0; i < at.columns * C; i += lanes<T>) store_partial(to + i, set1(p.value), at.columns * C - i);
        return;
    }
    const std::int64_t lo = least(most(p.interior_lo - t.x0, 0), at.columns);
    const std::int64_t hi = pixel == C ? least(most(p.interior_hi - t.x0, lo), at.columns) : lo;
    const auto one = [&](std::int64_t x) {
        if (map[x] < 0) store_partial(to + x * C, set1(p.value), C);
        else store_partial(to + x * C, load_partial(row + map[x] * pixel, C), C);
    };
    for (std::int64_t x = 0; x < lo; ++x) one(x);
    if (hi > lo) copy_elements(row + map[lo] * pixel, to + lo * C, (hi - lo) * C);
    for (std::int64_t x = hi; x < at.columns; ++x) one(x);
}

// Residuals of the pixels of one vector.
template <class T>
NPCONV_INLINE Vec<T> load_residual(const EpilogueArgs<T>& e, const T* r, std::int64_t channels, std::int64_t n) {
    if (e.residual_stride[1] == 1 && e.residual_stride[4] == channels) return load_partial(r, n);
    T v[lanes<T>] = {};
    for (std::int64_t i = 0; i < n; ++i) v[i] = r[i / channels * e.residual_stride[4] + i % channels * e.residual_stride[1]];
    return load(v);
}

// `n_rows` output rows y, y + step, ...
template <class T>
void output_rows(const Problem<T>& p, const Task& t, const Layout<T>& at, std::int64_t y, std::int64_t n_rows,
                 std::int64_t step) {
    constexpr int L = lanes<T>;
    const EpilogueArgs<T>& e = p.epilogue;
    const T* by_lane = static_cast<const T*>(t.scratch);
    const std::int64_t* tap = reinterpret_cast<const std::int64_t*>(static_cast<const char*>(t.scratch) + at.taps_at);
    const T* strip = reinterpret_cast<const T*>(static_cast<const char*>(t.scratch) + at.strip_at);
    const std::int64_t C = p.channels, spacing = at.pixels * C, width = vectors_of(n_rows) * at.pixels;
    const Vec<T> scale = load(by_lane), bias = load(by_lane + L);
    const Simple<T> simple(e);
    const bool plain = is_simple(e), dense = p.dst_stride[4] == C;
    T* out = p.dst + t.n * p.dst_stride[0] + t.d * p.dst_stride[2];
    for (std::int64_t x = t.x0; x < t.x1; x += width) {
        const std::int64_t n = least(width, t.x1 - x);
        const Sum<T> s{strip + (y - t.y0) * p.sh * at.row + (x - t.x0) * C, p.dh * at.row, at.slice, tap, p.weights,
                       p.kd, p.kh, p.kw, spacing};
        T sums[most_sums * L];
        std::int64_t nv = 0;
        sum_rows<T, true>(n_rows, (n + at.pixels - 1) / at.pixels, s, sums, nv);
        for (std::int64_t r = 0; r < n_rows; ++r)
            for (std::int64_t i = 0, v = 0; i < n; i += at.pixels, ++v) {
                Vec<T> value = load(sums + (r * nv + v) * L);
                const std::int64_t row = y + r * step, elements = least(n - i, at.pixels) * C;
                if (plain) {
                    value = simple(value, scale, bias);
                } else {
                    Vec<T> residual = set1(T(0));
                    if (e.residual_kind != Residual::none)
                        residual = load_residual(e, residual_at(e, t.n, 0, t.d, row, x + i), C, elements);
                    value = finish<T>(e, value, scale, bias, residual);
                }
                T* to = out + row * p.dst_stride[3] + (x + i) * p.dst_stride[4];
                if (dense) {
                    store_partial(to, value, elements);
                    continue;
                }
                T pixels[L + L];
                store(pixels, value);
                for (std::int64_t k = 0; k * C < elements; ++k)
                    store_partial(to + k * p.dst_stride[4], load_partial(pixels + k * C, C), C);
            }
    }
}

template <class T> void run(const Problem<T>& p, const Task& t) {
    constexpr int L = lanes<T>;
    const Layout<T> at(p, t);
    T* by_lane = static_cast<T*>(t.scratch);
    for (int i = 0; i < L; ++i) {
        by_lane[i] = p.epilogue.scale ? p.epilogue.scale[i % p.channels] : T(1);
        by_lane[L + i] = p.epilogue.bias ? p.epilogue.bias[i % p.channels] : T(0);
    }
    std::int64_t* tap = reinterpret_cast<std::int64_t*>(static_cast<char*>(t.scratch) + at.taps_at);
    T* strip = reinterpret_cast<T*>(static_cast<char*>(t.scratch) + at.strip_at);
    for (std::int64_t k = 0; k < p.kw; ++k) tap[k] = k * p.dw * p.channels;
    for (std::int64_t d = 0; d < p.kd; ++d)
        for (std::int64_t i = 0; i < at.n_rows; ++i)
            fill_row(p, t, at, row_offset(p, t.d * p.sd + d * p.dd, t.y0 * p.sh + i), strip + d * at.slice + i * at.row);
    const RowBlocks<T> blocks(p);
    blocks.each(t, [&](std::int64_t y, std::int64_t n) { output_rows(p, t, at, y, n, blocks.step); });
}

template <class T> std::size_t scratch(const Problem<T>& p, const Task& t) { return Layout<T>(p, t).bytes; }

// [tap][L], channels repeated as often as whole pixels fit.
template <class T> void pack(const WeightView<T>& w, std::int64_t, std::int64_t, T* packed) {
    constexpr std::int64_t L = lanes<T>;
    const std::int64_t taps = w.size[0] * w.size[1] * w.size[2], used = L / w.channels * w.channels;
    for (std::int64_t i = 0; i < L; ++i) {
        if (i < used) copy_taps(w, i % w.channels, packed + i, L);
        else for (std::int64_t k = 0; k < taps; ++k) packed[k * L + i] = T(0);
    }
}

}  // namespace

extern const depthwise::Kernels depthwise_interleaved_kernels = {{run<float>, scratch<float>, pack<float>},
                                                                 {run<double>, scratch<double>, pack<double>}};

}  // namespace npconv::NPCONV_THIS_ISA
