// Lanes = neighbouring channels. Rows of the padded image stand as [column][L] in a ring of as many rows as a window
// covers (small enough for L1), or are read straight from an nhwc image. An output row is computed in tiles of PX
// pixels; a column vector is loaded once and multiplied with every tap of the kernel row that it meets:
//     x = load(column j);  acc[(j - k) / S] += x * w[k]   for all k
// so that PX*K FMAs cost (PX-1)*S + 2K loads. Any kernel, stride, dilation and order of src and dst comes here; kernel
// widths 3, 5, 7 with strides 1, 2 are unrolled. nchw results go through L x L transposes.
#include "algorithms/depthwise/output.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// A row of the padded image: columns `step` elements apart; step 0 is a row of padding values.
template <class T> struct Row {
    const T* p;
    std::int64_t step;
};

// Where a tile's accumulators go: raw to [pixel][L], or finished to nhwc pixels.
template <class T> struct RawOut {
    T* out;
    NPCONV_INLINE void put(int i, Vec<T> acc) const { store(out + i * lanes<T>, acc); }
    NPCONV_INLINE void advance(std::int64_t n) { out += n * lanes<T>; }
};
template <class T> struct FinalOut {
    T* out;
    std::int64_t step, n;
    Vec<T> scale, bias;
    Simple<T> simple;
    NPCONV_INLINE void put(int i, Vec<T> acc) const {
        const Vec<T> v = simple(acc, scale, bias);
        if (n >= lanes<T>) store(out + i * step, v);
        else store_partial(out + i * step, v, n);
    }
    NPCONV_INLINE void advance(std::int64_t n_pixels) { out += n_pixels * step; }
};

template <class T> struct RowJob {
    const Row<T>* rows;
    std::int64_t n_rows, kw, dw, sw;
    const T* weights;
    std::int64_t n;  // outputs; the first one's tap 0 is column 0
};

template <class T, int K, int S, int PX, class Out>
NPCONV_INLINE void tile(const RowJob<T>& job, std::int64_t x, Out& out) {
    constexpr int L = lanes<T>;
    Vec<T> acc[PX];
    NPCONV_UNROLL for (int i = 0; i < PX; ++i) acc[i] = set1(T(0));
    const T* w = job.weights;
    NPCONV_NO_UNROLL for (std::int64_t r = 0; r < job.n_rows; ++r, w += K * L) {
        const std::int64_t step = job.rows[r].step;
        const T* p = job.rows[r].p + x * step;
        Vec<T> tap[K];
        NPCONV_UNROLL for (int k = 0; k < K; ++k) tap[k] = load(w + k * L);
        NPCONV_UNROLL for (int j = 0; j < (PX - 1) * S + K; ++j, p += step) {
            const Vec<T> v = load(p);
            NPCONV_UNROLL for (int k = 0; k < K; ++k)
                if (j - k >= 0 && (j - k) % S == 0 && (j - k) / S < PX)
                    acc[(j - k) / S] = fma(v, tap[k], acc[(j - k) / S]);
        }
    }
    NPCONV_UNROLL for (int i = 0; i < PX; ++i) out.put(i, acc[i]);
    out.advance(PX);
}

template <class T, int K, int S, class Out> NPCONV_NOINLINE void row_unrolled(const RowJob<T>& job, Out out) {
    std::int64_t x = 0, n = job.n;
    for (; n >= 7; n -= 7, x += 7 * S) tile<T, K, S, 7>(job, x, out);
    if (n & 4) tile<T, K, S, 4>(job, x, out), x += 4 * S;
    if (n & 2) tile<T, K, S, 2>(job, x, out), x += 2 * S;
    if (n & 1) tile<T, K, S, 1>(job, x, out);
}

// Any kernel row. With Blocks, sums end after at most block_terms terms and are added up in two further levels.
template <class T, int PX, bool Blocks, class Out>
NPCONV_INLINE void tile_any(const RowJob<T>& job, std::int64_t x, Out& out) {
    constexpr int L = lanes<T>;
    Vec<T> acc[PX];
    NPCONV_UNROLL for (int i = 0; i < PX; ++i) acc[i] = set1(T(0));
    T total[2][Blocks ? PX * L : 1] = {};
    std::int64_t blocks = 0;
    const std::int64_t rows_per_block = most(1, block_terms / job.kw);
    const T* w = job.weights;
    NPCONV_NO_UNROLL for (std::int64_t r = 0; r < job.n_rows; ++r) {
        const std::int64_t step = job.rows[r].step, pixel = job.sw * step;
        const T* p = job.rows[r].p + x * step;
        for (std::int64_t k0 = 0; k0 < job.kw; k0 += block_terms) {
            const std::int64_t k1 = least(job.kw, k0 + block_terms);
            if (Blocks && r + k0 > 0 && (k0 > 0 || r % rows_per_block == 0)) {
                ++blocks;
                NPCONV_UNROLL for (int i = 0; i < PX; ++i) {
                    T* t = total[0] + i * L;
                    store(t, add(load(t), acc[i]));
                    acc[i] = set1(T(0));
                    if (blocks % block_blocks == 0) {
                        store(total[1] + i * L, add(load(total[1] + i * L), load(t)));
                        store(t, set1(T(0)));
                    }
                }
            }
            NPCONV_NO_UNROLL for (std::int64_t k = k0; k < k1; ++k, w += L, p += job.dw * step) {
                const Vec<T> tap = load(w);
                NPCONV_UNROLL for (int i = 0; i < PX; ++i) acc[i] = fma(load(p + i * pixel), tap, acc[i]);
            }
        }
    }
    if constexpr (Blocks) {
        NPCONV_UNROLL for (int i = 0; i < PX; ++i)
            acc[i] = add(load(total[1] + i * L), add(load(total[0] + i * L), acc[i]));
    }
    NPCONV_UNROLL for (int i = 0; i < PX; ++i) out.put(i, acc[i]);
    out.advance(PX);
}

template <class T, bool Blocks, class Out> NPCONV_NOINLINE void row_any(const RowJob<T>& job, Out out) {
    std::int64_t x = 0, n = job.n;
    for (; n >= 7; n -= 7, x += 7 * job.sw) tile_any<T, 7, Blocks>(job, x, out);
    for (; n >= 2; n -= 2, x += 2 * job.sw) tile_any<T, 2, Blocks>(job, x, out);
    if (n) tile_any<T, 1, Blocks>(job, x, out);
}

template <class T, class Out> NPCONV_INLINE void row(const RowJob<T>& job, const Out& out) {
    if (job.n <= 0) return;
    const bool blocks = job.n_rows * job.kw > block_terms;
    if (blocks) return row_any<T, true>(job, out);
    if (job.dw == 1 && job.sw == 1) {
        if (job.kw == 3) return row_unrolled<T, 3, 1>(job, out);
        if (job.kw == 5) return row_unrolled<T, 5, 1>(job, out);
        if (job.kw == 7) return row_unrolled<T, 7, 1>(job, out);
    }
    if (job.dw == 1 && job.sw == 2) {
        if (job.kw == 3) return row_unrolled<T, 3, 2>(job, out);
        if (job.kw == 5) return row_unrolled<T, 5, 2>(job, out);
        if (job.kw == 7) return row_unrolled<T, 7, 2>(job, out);
    }
    row_any<T, false>(job, out);
}

// Where the pieces of a task's scratch lie. When the image itself is read, a ring holds only the columns of the outputs
// [x0, lo) and [hi, x1) near the borders; a last block with fewer than L channels still needs all columns.
template <class T> struct Layout {
    std::int64_t lo, hi, left, columns, slots, ring, out_rows, blocks;  // ring: elements of one channel block
    std::size_t rows_at, ring_at, out_at, bytes;
    Layout(const Problem<T>& p, const Task& t) {
        constexpr std::int64_t L = lanes<T>;
        const std::int64_t width = t.x1 - t.x0, reach = extent(p.kw, p.dw);
        const std::int64_t fit = p.interior_hi < reach ? 0 : (p.interior_hi - reach) / p.sw + 1;
        lo = least(most((p.interior_lo + p.sw - 1) / p.sw, t.x0), t.x1);
        hi = least(most(fit, lo), t.x1);
        left = lo > t.x0 ? (lo - t.x0 - 1) * p.sw + reach : 0;
        columns = (width - 1) * p.sw + reach;
        slots = extent(p.kh, p.dh);
        ring = p.kd * slots * (p.direct ? left + (t.x1 > hi ? (t.x1 - hi - 1) * p.sw + reach : 0) : columns) * L;
        blocks = (t.channels + L - 1) / L;
        const bool flat = width == p.ow && !p.dst_nhwc;
        out_rows = flat ? least(t.y1 - t.y0, most(1, 256 / (width * p.multiplier))) : 1;
        rows_at = 64;
        ring_at = static_cast<std::size_t>(round_up(64 + p.kd * p.kh * std::int64_t(sizeof(Row<T>)), 64));
        const std::int64_t whole = p.direct ? p.kd * slots * columns * L : 0;
        out_at = ring_at + static_cast<std::size_t>(blocks * ring + whole) * sizeof(T);
        bytes = out_at + static_cast<std::size_t>(p.multiplier * (out_rows * width + L) * L) * sizeof(T);
    }
};

template <class T> struct Block {
    std::int64_t c, n;  // first channel, channels (<= L)
};

// Scale and bias of output m of neighbouring channels.
template <class T>
NPCONV_INLINE Vec<T> lanes_of(const T* v, T absent, const Block<T>& b, std::int64_t multiplier, std::int64_t m) {
    return v ? load_strided(v + b.c * multiplier + m, multiplier, b.n) : set1(absent);
}

// raw: [rows*width pixels][L] of output m, to nchw planes.
template <class T>
NPCONV_NOINLINE void flush_planes(const Problem<T>& p, const Task& t, const Block<T>& b, std::int64_t m,
                                  std::int64_t y, std::int64_t n_rows, const T* raw) {
    constexpr int L = lanes<T>;
    const EpilogueArgs<T>& e = p.epilogue;
    const std::int64_t width = t.x1 - t.x0, pixels = n_rows * width, oc = b.c * p.multiplier + m;
    T* out = p.dst + t.n * p.dst_stride[0] + oc * p.dst_stride[1] + t.d * p.dst_stride[2] + y * p.dst_stride[3] + t.x0;
    const Simple<T> simple(e);
    const bool is_plain = is_simple(e);
    for (std::int64_t i = 0; i < pixels; i += L) {
        Vec<T> r[L];
        NPCONV_UNROLL for (int k = 0; k < L; ++k) r[k] = load(raw + (i + k) * L);
        transpose(r);
        alignas(64) T planes[L * L];
        NPCONV_UNROLL for (int k = 0; k < L; ++k) store(planes + k * L, r[k]);
        for (std::int64_t k = 0; k < b.n; ++k) {
            const std::int64_t c = oc + k * p.multiplier;
            const Vec<T> scale = channel_scale(e, c), bias = channel_bias(e, c);
            Vec<T> v = load(planes + k * L);
            if (is_plain) {
                v = simple(v, scale, bias);
            } else {
                Vec<T> residual = set1(T(0));
                if (e.residual_kind != Residual::none)
                    residual = load_pixels(residual_at(e, t.n, c, t.d, y, t.x0), e.residual_stride[3],
                                           e.residual_stride[4], width, i, pixels - i);
                v = finish<T>(e, v, scale, bias, residual);
            }
            store_partial(out + k * p.multiplier * p.dst_stride[1] + i, v, pixels - i);
        }
    }
}

// raw: [m][pixels_m][L] of one row, to nhwc pixels; multiplier 1 or any.
template <class T>
NPCONV_NOINLINE void flush_pixels(const Problem<T>& p, const Task& t, const Block<T>& b, std::int64_t y, const T* raw,
                                  std::int64_t pixels_m) {
    constexpr int L = lanes<T>;
    const EpilogueArgs<T>& e = p.epilogue;
    const std::int64_t M = p.multiplier, oc = b.c * M;
    T* out = p.dst + t.n * p.dst_stride[0] + t.d * p.dst_stride[2] + y * p.dst_stride[3] + t.x0 * p.dst_stride[4] + oc;
    const T* res = e.residual_kind != Residual::none ? residual_at(e, t.n, oc, t.d, y, t.x0) : nullptr;
    const auto put = [&](std::int64_t x, std::int64_t at, std::int64_t n, Vec<T> v) {
        const Vec<T> scale = channels_scale(e, oc + at, n), bias = channels_bias(e, oc + at, n);
        Vec<T> residual = set1(T(0));
        if (res)
            residual = load_strided(res + x * e.residual_stride[4] + at * e.residual_stride[1], e.residual_stride[1], n);
        store_partial(out + x * p.dst_stride[4] + at, finish<T>(e, v, scale, bias, residual), n);
    };
    for (std::int64_t x = 0; x < t.x1 - t.x0; ++x) {
        if (M == 1) {
            put(x, 0, b.n, load(raw + x * L));
            continue;
        }
        for (std::int64_t m = 0; m < M; m += L) {  // L outputs of L channels at a time: [m][channel] -> [channel][m]
            Vec<T> r[L];
            for (int k = 0; k < L; ++k) r[k] = load(raw + (least(m + k, M - 1) * pixels_m + x) * L);
            transpose(r);
            for (std::int64_t k = 0; k < b.n; ++k) put(x, k * M + m, least(M - m, L), r[k]);
        }
    }
}

template <class T> struct Band {
    const Problem<T>& p;
    const Task& t;
    const Layout<T> at;
    Row<T>* const rows;
    T* const padding;
    T* const ring;
    T* const out;

    Band(const Problem<T>& problem, const Task& task)
        : p(problem), t(task), at(problem, task),
          rows(reinterpret_cast<Row<T>*>(static_cast<char*>(task.scratch) + at.rows_at)),
          padding(static_cast<T*>(task.scratch)),
          ring(reinterpret_cast<T*>(static_cast<char*>(task.scratch) + at.ring_at)),
          out(reinterpret_cast<T*>(static_cast<char*>(task.scratch) + at.out_at)) {
        store(padding, set1(p.value));
    }

    bool direct(const Block<T>& b) const { return p.direct && b.n == lanes<T>; }

    // Columns of outputs [x0, x1), rows [h0, h1) of the padded image, into a ring.
    void fill(const Block<T>& b, std::int64_t x0, std::int64_t x1, std::int64_t h0, std::int64_t h1, T* to,
              std::int64_t columns) const {
        if (x0 >= x1) return;
        StripSource<T> s = strip_source(p, t.n, b.c, x0, x1);
        s.rows = 1;
        for (std::int64_t d = 0; d < p.kd; ++d)
            for (std::int64_t h = h0; h < h1; ++h) {
                const std::int64_t offset = row_offset(p, t.d * p.sd + d * p.dd, h);
                if (offset == constant_row) continue;
                s.row_offset = &offset;
                p.strip.lanes(s, b.n, to + (d * at.slots + h % at.slots) * columns * lanes<T>);
            }
    }
    void fill(std::int64_t block, const Block<T>& b, std::int64_t h0, std::int64_t h1) const {
        T* to = ring + block * at.ring;
        if (!direct(b)) return fill(b, t.x0, t.x1, h0, h1, to, at.columns);
        fill(b, t.x0, at.lo, h0, h1, to, at.left);
        fill(b, at.hi, t.x1, h0, h1, to + p.kd * at.slots * at.left * lanes<T>, right());
    }
    std::int64_t right() const { return t.x1 > at.hi ? (t.x1 - at.hi - 1) * p.sw + extent(p.kw, p.dw) : 0; }

    // The kernel's rows of output row y: in a ring, or null: in the image from source column `column` on.
    void window(const Block<T>& b, std::int64_t y, const T* from, std::int64_t columns, std::int64_t column) const {
        const T* image = p.src + t.n * p.src_stride[0] + b.c + column * p.src_stride[4];
        Row<T>* r = rows;
        for (std::int64_t d = 0; d < p.kd; ++d)
            for (std::int64_t k = 0; k < p.kh; ++k, ++r) {
                const std::int64_t h = y * p.sh + k * p.dh;
                const std::int64_t offset = row_offset(p, t.d * p.sd + d * p.dd, h);
                if (offset == constant_row) *r = {padding, 0};
                else if (from) *r = {from + (d * at.slots + h % at.slots) * columns * lanes<T>, lanes<T>};
                else *r = {image + offset, p.src_stride[4]};
            }
    }

    template <class Out> void compute(std::int64_t block, const Block<T>& b, std::int64_t y, const T* weights, Out o) const {
        const T* from = ring + block * at.ring;
        const auto part = [&](std::int64_t x0, std::int64_t x1, const T* rows_from, std::int64_t columns,
                              std::int64_t column) {
            if (x0 >= x1) return;
            window(b, y, rows_from, columns, column);
            row(RowJob<T>{rows, p.kd * p.kh, p.kw, p.dw, p.sw, weights, x1 - x0}, o);
            o.advance(x1 - x0);
        };
        if (!direct(b)) return part(t.x0, t.x1, from, at.columns, 0);
        part(t.x0, at.lo, from, at.left, 0);
        if (at.lo < at.hi) part(at.lo, at.hi, nullptr, 0, p.w_map[at.lo * p.sw]);
        part(at.hi, t.x1, from + p.kd * at.slots * at.left * lanes<T>, right(), 0);
    }

    void output_row(std::int64_t block, const Block<T>& b, std::int64_t y, std::int64_t row_in_out) const {
        constexpr std::int64_t L = lanes<T>;
        const std::int64_t taps = p.kd * p.kh * p.kw, width = t.x1 - t.x0, pixels_m = at.out_rows * width + L;
        const T* weights = p.weights + (t.c / L + block) * p.multiplier * taps * L;
        if (p.dst_nhwc && p.multiplier == 1 && is_simple(p.epilogue)) {
            T* dst = p.dst + t.n * p.dst_stride[0] + t.d * p.dst_stride[2] + y * p.dst_stride[3] +
                     t.x0 * p.dst_stride[4] + b.c;
            return compute(block, b, y, weights, FinalOut<T>{dst, p.dst_stride[4], b.n, channels_scale(p.epilogue, b.c, b.n),
                                                channels_bias(p.epilogue, b.c, b.n), Simple<T>(p.epilogue)});
        }
        for (std::int64_t m = 0; m < p.multiplier; ++m)
            compute(block, b, y, weights + m * taps * L, RawOut<T>{out + (m * pixels_m + row_in_out * width) * L});
        if (p.dst_nhwc) return flush_pixels(p, t, b, y, out, pixels_m);
        if (row_in_out + 1 == at.out_rows || y + 1 == t.y1)
            for (std::int64_t m = 0; m < p.multiplier; ++m)
                flush_planes(p, t, b, m, y - row_in_out, row_in_out + 1, out + m * pixels_m * L);
    }

    void run() const {
        constexpr std::int64_t L = lanes<T>;
        std::int64_t loaded = 0;
        for (std::int64_t y = t.y0; y < t.y1; ++y) {
            const std::int64_t h0 = most(loaded, y * p.sh), h1 = y * p.sh + at.slots;
            for (std::int64_t block = 0; block < at.blocks; ++block) {
                const Block<T> b{t.c + block * L, least(t.channels - block * L, L)};
                fill(block, b, h0, h1);
                output_row(block, b, y, (y - t.y0) % at.out_rows);
            }
            loaded = h1;
        }
    }
};

template <class T> void run(const Problem<T>& p, const Task& t) { Band<T>(p, t).run(); }

template <class T> std::size_t scratch(const Problem<T>& p, const Task& t) { return Layout<T>(p, t).bytes; }

// [channel block][m][tap][L]; lanes beyond the last channel are zero.
template <class T> void pack(const WeightView<T>& w, std::int64_t c, std::int64_t n, T* packed) {
    constexpr std::int64_t L = lanes<T>;
    const std::int64_t taps = w.size[0] * w.size[1] * w.size[2], M = w.multiplier;
    const bool dense = w.stride[4] == 1 && (w.size[1] == 1 || w.stride[3] == w.size[2]) &&
                       (w.size[0] == 1 || w.stride[2] == w.size[1] * w.size[2]);
    for (std::int64_t c0 = c; c0 < c + n; c0 += L)
        for (std::int64_t m = 0; m < M; ++m) {
            T* out = packed + (c0 / L * M + m) * taps * L;
            const std::int64_t valid = least(L, c + n - c0);
            if (dense) {
                for (std::int64_t k = 0; k < taps; k += L) {
                    Vec<T> r[L];
                    for (std::int64_t i = 0; i < L; ++i)
                        r[i] = i < valid ? load_partial(w.data + ((c0 + i) * M + m) * w.stride[0] + k, taps - k) : set1(T(0));
                    transpose(r);
                    for (std::int64_t i = 0; i < L && k + i < taps; ++i) store(out + (k + i) * L, r[i]);
                }
                continue;
            }
            for (std::int64_t i = 0; i < L; ++i) {
                if (i < valid) copy_taps(w, (c0 + i) * M + m, out + i, L);
                else for (std::int64_t k = 0; k < taps; ++k) out[k * L + i] = T(0);
            }
        }
}

}  // namespace

extern const depthwise::Kernels depthwise_lanes_kernels = {{run<float>, scratch<float>, pack<float>},
                                                           {run<double>, scratch<double>, pack<double>}};

}  // namespace npconv::NPCONV_THIS_ISA
