// Lanes = neighbouring channels. An output row is computed in tiles of 7 pixels (then 4, 2, 1); a column vector is loaded
// once and multiplied with every tap of the kernel row that it meets:
//     x = load(column j);  acc[(j - k) / S] += x * w[k]   for all k
// so that 7*K FMAs cost 6*S + 2K loads: 7 accumulators + K taps + 1 column fit 16 registers up to K = 7. Any kernel,
// stride, dilation and order of src and dst comes here; kernel widths 3, 5, 7 with strides 1, 2 are unrolled.
// Rows are found
//   nhwc:  in the image itself; outputs near the left and right border look every column up in the map (kernel_nhwc.cpp has
//          another order for most nhwc outputs)
//   nchw:  in a ring of transposed rows (as many as a window covers, so that they stay in L1), whole and without padding,
//          so that whole vectors of pixels are transposed; borders as above
//   else:  in a ring of padded rows [column][L]
// Results for planes are transposed back 256 pixels at a time.
// Zen 4, one core, peak 118 GFLOP/s; AVX-512 (AVX2), nhwc -> nhwc and nchw -> nchw:
//   k5 240x28: 94 and 71 (57)    k7 96x56: 106 and 89 (75)    k3 960x7: 48 and 28 (18)    k3 32x112: 58 and 40 (43)
// At k3 the epilogue and the stores of 7 pixels are as many instructions as a kernel row; nchw adds two transposes.
#include "algorithms/depthwise/output.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// A row of the padded image: columns `step` elements apart; step 0 is a row of padding values.
template <class T> struct Row {
    const T* p;
    std::int64_t step;
};

// Where a tile's accumulators go: raw to [pixel][L], or finished, there or to nhwc pixels.
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

// One output row. Columns of a row are those of the padded copy, or, with a map, those of the image: outputs whose
// columns reach beyond [interior_lo, interior_hi) look every one of them up.
template <class T> struct RowJob {
    const Row<T>* rows;
    std::int64_t n_rows, kw, dw, sw;
    const T* weights;
    std::int64_t n;  // outputs
    const std::int32_t* map;  // of tap 0 of the first output; null: a copy
    std::int64_t interior_lo, interior_hi;  // relative to `map`
    const T* padding;
};

template <class T> NPCONV_INLINE bool at_border(const RowJob<T>& job, std::int64_t x, std::int64_t columns) {
    return job.map && (x < job.interior_lo || x + columns > job.interior_hi);
}
template <class T> NPCONV_INLINE std::int64_t first_column(const RowJob<T>& job, std::int64_t x) {
    return job.map ? job.map[x] : x;
}
template <class T>
NPCONV_INLINE const T* mapped(const RowJob<T>& job, const Row<T>& row, std::int64_t column) {
    const std::int64_t c = job.map[column];
    return c < 0 ? job.padding : row.p + c * row.step;
}

template <class T, int K, int S, int PX, bool Border, class Out>
NPCONV_INLINE void tile(const RowJob<T>& job, std::int64_t x, Out& out) {
    constexpr int L = lanes<T>;
    Vec<T> acc[PX];
    NPCONV_UNROLL for (int i = 0; i < PX; ++i) acc[i] = set1(T(0));
    const T* w = job.weights;
    const std::int64_t first = Border ? x : first_column(job, x);
    NPCONV_NO_UNROLL for (std::int64_t r = 0; r < job.n_rows; ++r, w += K * L) {
        const Row<T> row = job.rows[r];
        const T* p = row.p + first * row.step;
        Vec<T> tap[K];
        NPCONV_UNROLL for (int k = 0; k < K; ++k) tap[k] = load(w + k * L);
        NPCONV_UNROLL for (int j = 0; j < (PX - 1) * S + K; ++j, p += row.step) {
            const Vec<T> v = load(Border ? mapped(job, row, x + j) : p);
            NPCONV_UNROLL for (int k = 0; k < K; ++k)
                if (j - k >= 0 && (j - k) % S == 0 && (j - k) / S < PX)
                    acc[(j - k) / S] = fma(v, tap[k], acc[(j - k) / S]);
        }
    }
    NPCONV_UNROLL for (int i = 0; i < PX; ++i) out.put(i, acc[i]);
    out.advance(PX);
}

template <class T, int K, int S, int PX, class Out>
NPCONV_INLINE void tile_somewhere(const RowJob<T>& job, std::int64_t x, Out& out) {
    if (at_border(job, x, (PX - 1) * S + K)) tile<T, K, S, PX, true>(job, x, out);
    else tile<T, K, S, PX, false>(job, x, out);
}

template <class T, int K, int S, class Out> NPCONV_NOINLINE void row_unrolled(const RowJob<T>& job, Out out) {
    std::int64_t x = 0, n = job.n;
    for (; n >= 7; n -= 7, x += 7 * S) tile_somewhere<T, K, S, 7>(job, x, out);
    if (n & 4) tile_somewhere<T, K, S, 4>(job, x, out), x += 4 * S;
    if (n & 2) tile_somewhere<T, K, S, 2>(job, x, out), x += 2 * S;
    if (n & 1) tile_somewhere<T, K, S, 1>(job, x, out);
}

// Any kernel row. With Blocks, sums end after at most block_terms terms and are added up in two further levels.
template <class T, int PX, bool Blocks, bool Border, class Out>
NPCONV_INLINE void tile_any(const RowJob<T>& job, std::int64_t x, Out& out) {
    constexpr int L = lanes<T>;
    Vec<T> acc[PX];
    NPCONV_UNROLL for (int i = 0; i < PX; ++i) acc[i] = set1(T(0));
    T total[2][Blocks ? PX * L : 1] = {};
    std::int64_t blocks = 0;
    const std::int64_t rows_per_block = most(1, block_terms / job.kw);
    const T* w = job.weights;
    const std::int64_t first = Border ? x : first_column(job, x);
    NPCONV_NO_UNROLL for (std::int64_t r = 0; r < job.n_rows; ++r) {
        const Row<T> row = job.rows[r];
        const std::int64_t pixel = job.sw * row.step;
        const T* p = row.p + first * row.step;
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
            NPCONV_NO_UNROLL for (std::int64_t k = k0; k < k1; ++k, w += L, p += job.dw * row.step) {
                const Vec<T> tap = load(w);
                NPCONV_UNROLL for (int i = 0; i < PX; ++i) {
                    const T* q = Border ? mapped(job, row, x + i * job.sw + k * job.dw) : p + i * pixel;
                    acc[i] = fma(load(q), tap, acc[i]);
                }
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

template <class T, int PX, bool Blocks, class Out>
NPCONV_INLINE void tile_any_somewhere(const RowJob<T>& job, std::int64_t x, Out& out) {
    if (at_border(job, x, (PX - 1) * job.sw + extent(job.kw, job.dw))) tile_any<T, PX, Blocks, true>(job, x, out);
    else tile_any<T, PX, Blocks, false>(job, x, out);
}

template <class T, bool Blocks, class Out> NPCONV_NOINLINE void row_any(const RowJob<T>& job, Out out) {
    std::int64_t x = 0, n = job.n;
    for (; n >= 7; n -= 7, x += 7 * job.sw) tile_any_somewhere<T, 7, Blocks>(job, x, out);
    for (; n >= 2; n -= 2, x += 2 * job.sw) tile_any_somewhere<T, 2, Blocks>(job, x, out);
    if (n) tile_any_somewhere<T, 1, Blocks>(job, x, out);
}

template <class T, class Out> NPCONV_INLINE void row(const RowJob<T>& job, const Out& out) {
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

// Where the pieces of a task's scratch lie. When the image itself is read, only a last block with fewer than L channels
// still needs a ring. A flat ring holds source rows as they are, loaded `chunk` at a time so that whole vectors of pixels
// are transposed; other rings hold padded rows, of strongly dilated kernels only those of one output row.
template <class T> struct Layout {
    bool flat, sparse;
    std::int64_t chunk, columns, slots, ring, out_rows, blocks;  // ring: elements of one channel block
    std::size_t rows_at, ring_at, out_at, bytes;
    Layout(const Problem<T>& p, const Task& t) {
        constexpr std::int64_t L = lanes<T>;
        const std::int64_t width = t.x1 - t.x0;
        flat = p.flat && width == p.ow && extent(p.kh, p.dh) * p.iw * L * std::int64_t(sizeof(T)) <= (512 << 10);
        columns = flat ? p.iw : (width - 1) * p.sw + extent(p.kw, p.dw);
        chunk = 1;
        while (flat && chunk < L && chunk * columns % L != 0) chunk *= 2;
        if (chunk * columns > 512) chunk = 1;
        slots = round_up(extent(p.kh, p.dh) + chunk - 1, chunk);
        sparse = !flat && p.dh > 1 && p.kd * slots * columns * L * std::int64_t(sizeof(T)) > (512 << 10);
        if (sparse) slots = p.kh;
        ring = p.kd * slots * columns * L;
        blocks = (t.channels + L - 1) / L;
        out_rows = width == p.ow && !p.dst_nhwc ? least(t.y1 - t.y0, most(1, 256 / (width * p.multiplier))) : 1;
        rows_at = 64;
        ring_at = static_cast<std::size_t>(round_up(64 + p.kd * p.kh * std::int64_t(sizeof(Row<T>)), 64));
        out_at = ring_at + static_cast<std::size_t>((p.direct ? 1 : blocks) * ring) * sizeof(T);
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

// values: [rows*width pixels][L] of output m, to nchw planes. Finished already if the epilogue is simple.
template <class T>
NPCONV_NOINLINE void flush_planes(const Problem<T>& p, const Task& t, const Block<T>& b, std::int64_t m,
                                  std::int64_t y, std::int64_t n_rows, const T* values) {
    constexpr int L = lanes<T>;
    const EpilogueArgs<T>& e = p.epilogue;
    const std::int64_t width = t.x1 - t.x0, pixels = n_rows * width, oc = b.c * p.multiplier + m;
    const std::int64_t plane = p.multiplier * p.dst_stride[1];
    T* out = p.dst + t.n * p.dst_stride[0] + oc * p.dst_stride[1] + t.d * p.dst_stride[2] + y * p.dst_stride[3] + t.x0;
    const bool simple = is_simple(e);
    for (std::int64_t i = 0; i < pixels; i += L) {
        Vec<T> r[L];
        NPCONV_UNROLL for (int k = 0; k < L; ++k) r[k] = load(values + (i + k) * L);
        transpose(r);
        if (simple && b.n == L && i + L <= pixels) {
            NPCONV_UNROLL for (int k = 0; k < L; ++k) store(out + k * plane + i, r[k]);
            continue;
        }
        alignas(64) T planes[L * L];
        NPCONV_UNROLL for (int k = 0; k < L; ++k) store(planes + k * L, r[k]);
        for (std::int64_t k = 0; k < b.n; ++k) {
            const std::int64_t c = oc + k * p.multiplier;
            Vec<T> v = load(planes + k * L);
            if (!simple) {
                Vec<T> residual = set1(T(0));
                if (e.residual_kind != Residual::none)
                    residual = load_pixels(residual_at(e, t.n, c, t.d, y, t.x0), e.residual_stride[3],
                                           e.residual_stride[4], width, i, pixels - i);
                v = finish<T>(e, v, channel_scale(e, c), channel_bias(e, c), residual);
            }
            store_partial(out + k * plane + i, v, pixels - i);
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

    T* slot(std::int64_t block, std::int64_t d, std::int64_t h) const {
        return ring + (p.direct ? 0 : block * at.ring) + (d * at.slots + h % at.slots) * at.columns * lanes<T>;
    }

    // Rows h0, h0 + step, ... below h1 of the padded image into the ring of one channel block.
    void fill(std::int64_t block, const Block<T>& b, std::int64_t h0, std::int64_t h1, std::int64_t step) const {
        StripSource<T> s = strip_source(p, t.n, b.c, t.x0, t.x1);
        s.rows = 1;
        for (std::int64_t d = 0; d < p.kd; ++d)
            for (std::int64_t h = h0; h < h1; h += step) {
                const std::int64_t offset = row_offset(p, t.d * p.sd + d * p.dd, h);
                if (offset == constant_row) continue;
                s.row_offset = &offset;
                p.strip.lanes(s, b.n, slot(block, d, at.sparse ? (h - h0) / step : h));
            }
    }

    // Source rows [h, h + chunk), whole and without padding.
    void fill_flat(std::int64_t block, const Block<T>& b, std::int64_t h) const {
        StripSource<T> s = strip_source(p, t.n, b.c, t.x0, t.x1);
        const std::int32_t first = 0;
        s.rows = 1;
        s.column = &first;
        s.columns = s.interior_hi = least(at.chunk, p.ih - h) * p.iw;
        s.interior_lo = 0;
        for (std::int64_t d = 0; d < p.kd; ++d) {
            const std::int64_t source = p.d_map[t.d * p.sd + d * p.dd];
            if (source < 0) continue;
            const std::int64_t offset = source * p.src_stride[2] + h * p.src_stride[3];
            s.row_offset = &offset;
            p.strip.lanes(s, b.n, slot(block, d, h));
        }
    }

    // The kernel's rows of output row y.
    void window(std::int64_t block, const Block<T>& b, std::int64_t y) const {
        const T* image = p.src + t.n * p.src_stride[0] + b.c;
        Row<T>* r = rows;
        for (std::int64_t d = 0; d < p.kd; ++d)
            for (std::int64_t k = 0; k < p.kh; ++k, ++r) {
                const std::int64_t h = y * p.sh + k * p.dh;
                const std::int64_t offset = row_offset(p, t.d * p.sd + d * p.dd, h);
                if (offset == constant_row) *r = {padding, 0};
                else if (direct(b)) *r = {image + offset, p.src_stride[4]};
                else *r = {slot(block, d, at.flat ? h + p.h_begin : at.sparse ? k : h), lanes<T>};
            }
    }

    template <class Out> void compute(const Block<T>& b, const T* weights, const Out& o) const {
        const std::int64_t first = t.x0 * p.sw;
        const std::int32_t* map = direct(b) || at.flat ? p.w_map + first : nullptr;
        row(RowJob<T>{rows, p.kd * p.kh, p.kw, p.dw, p.sw, weights, t.x1 - t.x0, map, p.interior_lo - first,
                      p.interior_hi - first, padding},
            o);
    }

    void output_row(std::int64_t block, const Block<T>& b, std::int64_t y, std::int64_t row_in_out) const {
        constexpr std::int64_t L = lanes<T>;
        const std::int64_t taps = p.kd * p.kh * p.kw, width = t.x1 - t.x0, pixels_m = at.out_rows * width + L;
        const T* weights = p.weights + (t.c / L + block) * p.multiplier * taps * L;
        const EpilogueArgs<T>& e = p.epilogue;
        const bool simple = is_simple(e);
        if (p.dst_nhwc && p.multiplier == 1 && simple) {
            T* dst = p.dst + t.n * p.dst_stride[0] + t.d * p.dst_stride[2] + y * p.dst_stride[3] +
                     t.x0 * p.dst_stride[4] + b.c;
            return compute(b, weights, FinalOut<T>{dst, p.dst_stride[4], b.n, channels_scale(e, b.c, b.n),
                                                   channels_bias(e, b.c, b.n), Simple<T>(e)});
        }
        for (std::int64_t m = 0; m < p.multiplier; ++m) {
            T* to = out + (m * pixels_m + row_in_out * width) * L;
            if (simple && !p.dst_nhwc)
                compute(b, weights + m * taps * L, FinalOut<T>{to, L, L, lanes_of(e.scale, T(1), b, p.multiplier, m),
                                                               lanes_of(e.bias, T(0), b, p.multiplier, m), Simple<T>(e)});
            else
                compute(b, weights + m * taps * L, RawOut<T>{to});
        }
        if (p.dst_nhwc) return flush_pixels(p, t, b, y, out, pixels_m);
        if (row_in_out + 1 == at.out_rows || y + 1 == t.y1)
            for (std::int64_t m = 0; m < p.multiplier; ++m)
                flush_planes(p, t, b, m, y - row_in_out, row_in_out + 1, out + m * pixels_m * L);
    }

    void run() const {
        constexpr std::int64_t L = lanes<T>;
        std::int64_t loaded = at.flat ? INT64_MIN : 0;
        for (std::int64_t y = t.y0; y < t.y1; ++y) {
            std::int64_t h0 = y * p.sh, h1 = h0 + extent(p.kh, p.dh);
            if (at.flat) {  // source rows, chunks whole
                h0 = most(h0 + p.h_begin, 0) / at.chunk * at.chunk;
                h1 = least(h1 + p.h_begin, p.ih);
            }
            h0 = most(h0, loaded);
            for (std::int64_t block = 0; block < at.blocks; ++block) {
                const Block<T> b{t.c + block * L, least(t.channels - block * L, L)};
                if (at.flat)
                    for (std::int64_t h = h0; h < h1; h += at.chunk) fill_flat(block, b, h);
                else if (!direct(b))
                    fill(block, b, at.sparse ? y * p.sh : h0, h1, at.sparse ? p.dh : 1);
                window(block, b, y);
                output_row(block, b, y, (y - t.y0) % at.out_rows);
            }
            loaded = h0 < h1 ? h0 + round_up(h1 - h0, at.chunk) : h0;
        }
    }
};

template <class T> void run(const Problem<T>& p, const Task& t) { Band<T>(p, t).run(); }

template <class T> std::size_t scratch(const Problem<T>& p, const Task& t) { return Layout<T>(p, t).bytes; }

}  // namespace

extern const depthwise::Kernels depthwise_lanes_kernels = {{run<float>, scratch<float>, pack_lanes<float>},
                                                           {run<double>, scratch<double>, pack_lanes<double>}};

}  // namespace npconv::NPCONV_THIS_ISA
