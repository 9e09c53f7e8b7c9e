// The column side of the tile FFT: forward, times the filter's spectrum, back. The last forward pass, the product and
// the first inverse pass share one visit to memory, so 64 points are read and written three times in all.
#include "algorithms/fft/kernel.hpp"

#include "isa/this_isa.hpp"
#include "algorithms/fft/passes.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

template <class T> NPCONV_INLINE Complex<T> times(Complex<T> a, Vec<T> re, Vec<T> im) {
    return {fnma(a.im, im, mul(a.re, re)), fma(a.re, im, mul(a.im, re))};
}

// Last pass (blocks of R points, no twiddles), product, first pass back. Filter: complex scalars, or vectors.
template <int R, bool Lanes, class T>
NPCONV_NOINLINE void middle(T* x, std::int64_t stride, int size, const T* filter) {
    constexpr int L = lanes<T>, F = Lanes ? 2 * L : 2;
    NPCONV_NO_UNROLL for (int b = 0; b < size; b += R, x += R * stride, filter += R * F) {
        Complex<T> v[R];
        NPCONV_UNROLL for (int i = 0; i < R; ++i) v[i] = get(x + i * stride);
        dft(v);
        NPCONV_UNROLL for (int i = 0; i < R; ++i) {
            const T* f = filter + i * F;
            v[i] = swapped(Lanes ? times(v[i], load(f), load(f + L)) : times(v[i], set1(f[0]), set1(f[1])));
        }
        dft(v);
        NPCONV_UNROLL for (int i = 0; i < R; ++i) put(x + i * stride, swapped(v[i]));
    }
}

template <class T>
void convolve(const FftPasses<T>& f, int columns, T* spectra, const T* filter, bool lane_filter) {
    constexpr int L = lanes<T>;
    if (f.size == 1)  // rows only: one run of products
        return lane_filter ? middle<1, true>(spectra, 2 * L, columns, filter)
                           : middle<1, false>(spectra, 2 * L, columns, filter);
    const std::int64_t stride = columns * 2 * L, filter_step = std::int64_t(f.size) * (lane_filter ? 2 * L : 2);
    const int last = f.passes - 1;
    const bool eight = f.radix[last] == 8;  // else four
    for (int j = 0; j < columns; ++j, spectra += 2 * L, filter += filter_step) {
        forward_passes(f, last, spectra, stride);
        if (lane_filter) {
            if (eight) middle<8, true>(spectra, stride, f.size, filter);
            else middle<4, true>(spectra, stride, f.size, filter);
        } else {
            if (eight) middle<8, false>(spectra, stride, f.size, filter);
            else middle<4, false>(spectra, stride, f.size, filter);
        }
        inverse_passes(f, last, spectra, stride);
    }
}

template <class T> void forward(const FftPasses<T>& f, int columns, T* spectra) {
    constexpr int L = lanes<T>;
    if (f.size == 1) return;
    for (int j = 0; j < columns; ++j) forward_passes(f, f.passes, spectra + j * 2 * L, std::int64_t(columns) * 2 * L);
}

// Products summed over the inputs, then the first pass back.
template <int R, class T>
NPCONV_NOINLINE void sum_products(const T* x, std::int64_t stride, int size, int inputs, std::int64_t spectra_stride,
                                  const T* filter, std::int64_t filter_stride, T* out) {
    NPCONV_NO_UNROLL for (int b = 0; b < size; b += R, x += R * stride, out += R * stride, filter += 2 * R) {
        Complex<T> v[R];
        NPCONV_UNROLL for (int i = 0; i < R; ++i)
            v[i] = times(get(x + i * stride), set1(filter[2 * i]), set1(filter[2 * i + 1]));
        for (int c = 1; c < inputs; ++c) {
            const T *xc = x + c * spectra_stride, *fc = filter + c * filter_stride;
            NPCONV_UNROLL for (int i = 0; i < R; ++i) {
                const Complex<T> a = get(xc + i * stride);
                const Vec<T> re = set1(fc[2 * i]), im = set1(fc[2 * i + 1]);
                v[i] = {fnma(a.im, im, fma(a.re, re, v[i].re)), fma(a.re, im, fma(a.im, re, v[i].im))};
            }
        }
        NPCONV_UNROLL for (int i = 0; i < R; ++i) v[i] = swapped(v[i]);
        dft(v);
        NPCONV_UNROLL for (int i = 0; i < R; ++i) put(out + i * stride, swapped(v[i]));
    }
}

template <class T>
void inverse(const FftPasses<T>& f, int columns, int inputs, const T* spectra, std::int64_t spectra_stride,
             const T* filter, std::int64_t filter_stride, T* out) {
    constexpr int L = lanes<T>;
    if (f.size == 1)
        return sum_products<1>(spectra, 2 * L, columns, inputs, spectra_stride, filter, filter_stride, out);
    const std::int64_t stride = columns * 2 * L;
    const int last = f.passes - 1;
    for (int j = 0; j < columns; ++j, spectra += 2 * L, out += 2 * L, filter += 2 * f.size) {
        if (f.radix[last] == 8)
            sum_products<8>(spectra, stride, f.size, inputs, spectra_stride, filter, filter_stride, out);
        else
            sum_products<4>(spectra, stride, f.size, inputs, spectra_stride, filter, filter_stride, out);
        inverse_passes(f, last, out, stride);
    }
}

template <class T>
void filter_spectrum(int size, int columns, const T* spectra, T scale, bool lane_filter, int filters, T* filter,
                     std::int64_t filter_stride) {
    constexpr int L = lanes<T>;
    const Vec<T> re = set1(scale), im = set1(-scale);
    for (int j = 0; j < columns; ++j)
        for (int i = 0; i < size; ++i) {
            const Complex<T> v = get(spectra + (std::int64_t(i) * columns + j) * 2 * L);
            const std::int64_t at = std::int64_t(j) * size + i;
            if (lane_filter) {
                put(filter + at * 2 * L, Complex<T>{mul(v.re, re), mul(v.im, im)});
                continue;
            }
            T buffer[2 * L];
            put(buffer, Complex<T>{mul(v.re, re), mul(v.im, im)});
            for (int l = 0; l < filters; ++l) {
                filter[l * filter_stride + 2 * at] = buffer[l];
                filter[l * filter_stride + 2 * at + 1] = buffer[L + l];
            }
        }
}

template <class T> constexpr FftColumnKernelsOf<T> table = {convolve<T>, forward<T>, inverse<T>, filter_spectrum<T>};

}  // namespace

extern const FftColumnKernels fft_column_kernels = {table<float>, table<double>};

}  // namespace npconv::NPCONV_THIS_ISA
