// The row side of the tile FFT: real rows to half spectra and back, and what stands at both ends of it: tiles into
// lanes, lanes into output rows.
#include "algorithms/fft/kernel.hpp"

#include "isa/this_isa.hpp"
#include "algorithms/fft/passes.hpp"
#include "isa/simd_epilogue.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// work: a row as half.size complex points (neighbouring reals are real and imaginary part). Results are doubled.
template <class T> NPCONV_INLINE void forward_row(const FftRows<T>& f, T* work, T* spectrum) {
    constexpr int L = lanes<T>;
    const int m = f.half.size;
    forward_passes(f.half, f.half.passes, work, 2 * L);
    const Vec<T> zero = set1(T(0));
    {
        const Complex<T> z = get(work);
        const Vec<T> s = add(z.re, z.im), d = sub(z.re, z.im);
        put(spectrum, Complex<T>{add(s, s), zero});
        put(spectrum + m * 2 * L, Complex<T>{add(d, d), zero});
    }
    T *up = spectrum + 2 * L, *down = spectrum + (m - 1) * 2 * L;
    const T* w = f.twiddles;
    for (int k = 1; k <= m / 2; ++k, up += 2 * L, down -= 2 * L, w += 2) {
        const Complex<T> a = get(work + f.order[k] * 2 * L), b = get(work + f.order[m - k] * 2 * L);
        const Complex<T> e = {add(a.re, b.re), sub(a.im, b.im)};
        const Complex<T> o = rotate(Complex<T>{add(a.im, b.im), sub(b.re, a.re)}, set1(w[0]), set1(w[1]));
        put(down, Complex<T>{sub(e.re, o.re), sub(o.im, e.im)});
        put(up, e + o);
    }
}

template <class T> NPCONV_INLINE void inverse_row(const FftRows<T>& f, const T* spectrum, T* work) {
    constexpr int L = lanes<T>;
    const int m = f.half.size;
    {
        const Vec<T> a = load(spectrum), b = load(spectrum + m * 2 * L);
        put(work, Complex<T>{add(a, b), sub(a, b)});
    }
    const T *up = spectrum + 2 * L, *down = spectrum + (m - 1) * 2 * L;
    const T* w = f.twiddles;
    for (int k = 1; k <= m / 2; ++k, up += 2 * L, down -= 2 * L, w += 2) {
        const Complex<T> a = get(up), b = get(down);
        const Complex<T> e = {add(a.re, b.re), sub(a.im, b.im)};
        const Vec<T> c = set1(w[0]), s = set1(w[1]), dr = sub(a.re, b.re), di = add(a.im, b.im);
        const Vec<T> o = fnma(s, di, mul(c, dr)), q = fma(s, dr, mul(c, di));
        put(work + f.order[m - k] * 2 * L, Complex<T>{add(e.re, q), sub(o, e.im)});
        put(work + f.order[k] * 2 * L, Complex<T>{sub(e.re, q), add(e.im, o)});
    }
    inverse_passes(f.half, f.half.passes, work, 2 * L);
}

constexpr int prefetch_rows = 2;  // 4 to 6 % of a 2048 x 2048 image; four rows ahead are no better

template <class T>
void forward(const FftRows<T>& f, const T* const* lane, const std::int64_t* row_stride, int rows, T* work, T* spectra) {
    constexpr int L = lanes<T>;
    const int width = 2 * f.half.size;
    const T* p[L];
    for (int l = 0; l < L; ++l) p[l] = lane[l];
    for (int i = 0; i < rows; ++i, spectra += (f.half.size + 1) * 2 * L) {
        for (int c = 0; c < width; c += L) {
            Vec<T> r[L];
            if (width - c >= L) {
                NPCONV_UNROLL for (int l = 0; l < L; ++l) r[l] = load(p[l] + c);
            } else {
                NPCONV_UNROLL for (int l = 0; l < L; ++l) r[l] = load_partial(p[l] + c, width - c);
            }
            // Rows are too short and too far apart for the hardware to see what comes next.
            if (i + prefetch_rows < rows)
                NPCONV_UNROLL for (int l = 0; l < L; ++l) prefetch(p[l] + prefetch_rows * row_stride[l] + c);
            transpose(r);
            NPCONV_UNROLL for (int l = 0; l < L; ++l) store(work + (c + l) * L, r[l]);
        }
        forward_row(f, work, spectra);
        for (int l = 0; l < L; ++l) p[l] += row_stride[l];
    }
}

template <class T> void forward_lanes(const FftRows<T>& f, T* slab, int rows, T* spectra) {
    constexpr int L = lanes<T>;
    for (int i = 0; i < rows; ++i) forward_row(f, slab + i * 2 * f.half.size * L, spectra + i * (f.half.size + 1) * 2 * L);
}

// n <= lanes accumulators of one row of one lane's tile, from column on.
template <class T>
NPCONV_NOINLINE void store_line(const FftStore<T>& s, int lane, int row, int column, int n, const T* accumulators) {
    constexpr int L = lanes<T>;
    Vec<T> residual = set1(T(0));
    if (s.epilogue.residual_kind != Residual::none) {
        const T* p = s.residual[lane] + row * s.residual_row + column * s.residual_column;
        if (s.residual_column == 1) {
            residual = load_partial(p, n);
        } else {
            T buffer[L];
            store(buffer, residual);
            for (int i = 0; i < n; ++i) buffer[i] = p[i * s.residual_column];
            residual = load(buffer);
        }
    }
    const Vec<T> v = finish<T>(s.epilogue, load_partial(accumulators, n), channel_scale(s.epilogue, s.oc[lane]),
                               channel_bias(s.epilogue, s.oc[lane]), residual);
    T* d = s.dst[lane] + row * s.dst_row + column * s.dst_column;
    if (s.dst_column == 1) return store_partial(d, v, n);
    T buffer[L];
    store(buffer, v);
    for (int i = 0; i < n; ++i) d[i * s.dst_column] = buffer[i];
}

// Rows of lanes to rows of outputs: one row after the other of the same tiles.
template <class T> class RowStore {
public:
    static constexpr int L = lanes<T>;

    RowStore(FftStore<T>& s) : s_(s) {
        T scale[L], bias[L];
        rows_ = columns_ = 0;
        for (int l = 0; l < L; ++l) {
            const bool used = s.rows[l] > 0;
            scale[l] = used && s.epilogue.scale ? s.epilogue.scale[s.oc[l]] : T(1);
            bias[l] = used && s.epilogue.bias ? s.epilogue.bias[s.oc[l]] : T(0);
            limit_[l] = s.rows[l];
            if (s.rows[l] > rows_) rows_ = s.rows[l];
            if (s.columns[l] > columns_) columns_ = s.columns[l];
        }
        scale_ = load(scale);
        bias_ = load(bias);
        has_residual_ = s.epilogue.residual_kind != Residual::none;
        plain_ = !has_residual_ && !s.epilogue.scale && !s.epilogue.bias && s.epilogue.activation == Activation::none;
    }

    int rows() const { return rows_; }

    void row(int i, T* work) {
        if (!finite(work)) mark(i, work);
        if (s_.dense_channels && !marked_ && (!has_residual_ || s_.residual_dense))
            pixels(i, work);
        else if (!has_residual_ && s_.dst_column == 1)
            contiguous(i, work);
        else
            lines(i, work);
    }

    void finish_rows() {
        for (int l = 0; l < L; ++l) s_.finite_rows[l] = limit_[l];
    }

private:
    // A sum of finite numbers that is not finite costs a needless repair, nothing else.
    NPCONV_INLINE bool finite(const T* work) const {
        Vec<T> t[4];  // four sums, so that additions need not wait for each other
        NPCONV_UNROLL for (int i = 0; i < 4; ++i) t[i] = set1(T(0));
        int c = 0;
        NPCONV_NO_UNROLL for (; c + 4 <= columns_; c += 4)
            NPCONV_UNROLL for (int i = 0; i < 4; ++i) t[i] = add(t[i], load(work + (c + i) * L));
        NPCONV_NO_UNROLL for (; c < columns_; ++c) t[0] = add(t[0], load(work + c * L));
        const Vec<T> total = add(add(t[0], t[1]), add(t[2], t[3]));
        return !any_nonfinite(total);
    }

    NPCONV_NOINLINE void mark(int i, const T* work) {
        for (int l = 0; l < L; ++l) {
            T total = 0;
            for (int c = 0; c < columns_; ++c) total += work[c * L + l];
            if (!(total - total == 0) && limit_[l] > i) {
                limit_[l] = i;
                marked_ = true;
            }
        }
    }

    // Lanes are neighbouring channels of dst.
    NPCONV_INLINE void pixels(int i, const T* work) {
        T* d = s_.dst[0] + i * s_.dst_row;
        const T* r = has_residual_ ? s_.residual[0] + i * s_.residual_row : nullptr;
        for (int c = 0; c < columns_; ++c) {
            const Vec<T> residual = r ? load_partial(r + c * s_.residual_column, s_.dense_channels) : set1(T(0));
            store_partial(d + c * s_.dst_column, finish<T>(s_.epilogue, load(work + c * L), scale_, bias_, residual),
                          s_.dense_channels);
        }
    }

    NPCONV_INLINE void contiguous(int i, T* work) {
        if (!plain_)
            for (int c = 0; c < columns_; ++c)
                store(work + c * L, finish<T>(s_.epilogue, load(work + c * L), scale_, bias_, set1(T(0))));
        T* d[L];
        int n[L];
        int least = columns_;
        const bool next = i + 1 < rows_;
        for (int l = 0; l < L; ++l) {
            n[l] = i < limit_[l] ? s_.columns[l] : 0;
            d[l] = n[l] > 0 ? s_.dst[l] + i * s_.dst_row : nullptr;  // unused lanes have none
            if (n[l] < least) least = n[l];
        }
        for (int c = 0; c < columns_; c += L) {
            Vec<T> r[L];
            NPCONV_UNROLL for (int l = 0; l < L; ++l) r[l] = load(work + (c + l) * L);
            transpose(r);
            if (least - c >= L) {
                if (next) NPCONV_UNROLL for (int l = 0; l < L; ++l) prefetch_write(d[l] + s_.dst_row + c);
                NPCONV_UNROLL for (int l = 0; l < L; ++l) store(d[l] + c, r[l]);
            } else {
                NPCONV_UNROLL for (int l = 0; l < L; ++l)
                    if (n[l] > c) store_partial(d[l] + c, r[l], n[l] - c);
            }
        }
    }

    NPCONV_INLINE void lines(int i, const T* work) {
        for (int c = 0; c < columns_; c += L) {
            Vec<T> r[L];
            T block[L * L];
            NPCONV_UNROLL for (int l = 0; l < L; ++l) r[l] = load(work + (c + l) * L);
            transpose(r);
            NPCONV_UNROLL for (int l = 0; l < L; ++l) store(block + l * L, r[l]);
            for (int l = 0; l < L; ++l) {
                const int n = s_.columns[l] - c < L ? s_.columns[l] - c : L;
                if (i < limit_[l] && n > 0) store_line(s_, l, i, c, n, block + l * L);
            }
        }
    }

    FftStore<T>& s_;
    Vec<T> scale_, bias_;
    int limit_[L];  // rows to be stored of each lane
    int rows_, columns_;
    bool has_residual_, plain_, marked_ = false;
};

template <class T> void inverse(const FftRows<T>& f, const T* spectra, T* work, FftStore<T>& s) {
    constexpr int L = lanes<T>;
    RowStore<T> out(s);
    for (int i = 0; i < out.rows(); ++i) {
        inverse_row(f, spectra + i * (f.half.size + 1) * 2 * L, work);
        out.row(i, work);
    }
    out.finish_rows();
}

template <class T>
void store_rows(const FftStore<T>& s, int lane, int first, int rows, const T* accumulators, std::int64_t row_stride) {
    constexpr int L = lanes<T>;
    for (int i = 0; i < rows; ++i)
        for (int c = 0; c < s.columns[lane]; c += L)
            store_line(s, lane, first + i, c, s.columns[lane] - c < L ? s.columns[lane] - c : L,
                       accumulators + i * row_stride + c);
}

template <class T> constexpr FftRowKernelsOf<T> table = {forward<T>, forward_lanes<T>, inverse<T>, store_rows<T>};

}  // namespace

extern const FftRowKernels fft_row_kernels = {table<float>, table<double>};

}  // namespace npconv::NPCONV_THIS_ISA
