// Strip loaders: the only place where dense kernels meet borders. A row is split into left border, interior and right
// border once; the interior is moved in whole vectors (plain copies, deinterleaving for two phases, in-register
// transposes where the memory order of channels and columns changes), the few border columns go through the index table.
#include "strip/kernel.hpp"

#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

template <class T> NPCONV_INLINE T element(const StripSource<T>& s, const T* row, std::int64_t column) {
    const std::int32_t i = s.column[column];
    return i < 0 ? s.value : row[i * s.column_stride];
}

template <class T> NPCONV_INLINE void fill(T* dst, std::int64_t n, T value) {
    const Vec<T> v = set1(value);
    std::int64_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) store(dst + i, v);
    store_partial(dst + i, v, n - i);
}

template <class T> NPCONV_INLINE void copy(const T* src, T* dst, std::int64_t n) {
    std::int64_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) store(dst + i, load(src + i));
    store_partial(dst + i, load_partial(src + i, n - i), n - i);
}

template <class V> NPCONV_INLINE void deinterleave(V a, V b, V& even, V& odd) {
    part(a, b, even, odd);
    even = line_up(even);
    odd = line_up(odd);
}

// Columns [begin, end) of one channel's row, one by one.
template <class T>
NPCONV_INLINE void planar_columns(const StripSource<T>& s, const T* row, std::int64_t begin, std::int64_t end, int phases,
                                  T* dst, std::int64_t phase_stride) {
    if (begin >= end) return;
    if (phases == 1) {
        for (std::int64_t i = begin; i < end; ++i) dst[i] = element(s, row, i);
        return;
    }
    std::int64_t p = begin % phases, q = begin / phases;
    for (std::int64_t i = begin; i < end; ++i) {
        dst[p * phase_stride + q] = element(s, row, i);
        if (++p == phases) p = 0, ++q;
    }
}

// The interior of a row with unit column stride.
template <class T>
NPCONV_INLINE void planar_interior(const StripSource<T>& s, const T* row, int phases, T* dst, std::int64_t phase_stride) {
    constexpr int L = lanes<T>;
    std::int64_t lo = s.interior_lo;
    const std::int64_t hi = s.interior_hi;
    if (lo >= hi) return;
    const T* src = row + s.column[lo];
    if (phases == 1) return copy(src, dst + lo, hi - lo);
    if (phases == 2) {
        if (lo & 1) {
            dst[phase_stride + lo / 2] = *src++;
            ++lo;
        }
        const std::int64_t n = hi - lo, last = n / 2 - L;
        T *even = dst + lo / 2, *odd = even + phase_stride;
        const auto pairs = [&](std::int64_t i) NPCONV_INLINE_LAMBDA {
            Vec<T> e, o;
            deinterleave(load(src + 2 * i), load(src + 2 * i + L), e, o);
            store(even + i, e);
            store(odd + i, o);
        };
        if (last >= 0) {  // the last overlap those before them
            for (std::int64_t i = 0; i < last; i += L) pairs(i);
            pairs(last);
            if (n % 2) even[n / 2] = src[n - 1];
            return;
        }
        Vec<T> e, o;
        deinterleave(load_partial(src, n), load_partial(src + L, n - L), e, o);
        store_partial(even, e, (n + 1) / 2);
        store_partial(odd, o, n / 2);
        return;
    }
    for (int p = 0; p < phases; ++p) {
        const std::int64_t first = lo + ((p - lo) % phases + phases) % phases;
        T* d = dst + p * phase_stride + first / phases;
        for (std::int64_t i = first - lo; i < hi - lo; i += phases) *d++ = src[i];
    }
}

// The interior of a row of which every second element is wanted.
template <class T> NPCONV_INLINE void planar_every_second(const StripSource<T>& s, const T* row, T* dst) {
    constexpr int L = lanes<T>;
    const std::int64_t lo = s.interior_lo, n = s.interior_hi - lo;
    if (n <= 0) return;
    const T* src = row + 2 * std::int64_t(s.column[lo]);
    for (std::int64_t i = 0; i < n; i += L) {
        Vec<T> even, odd;
        const std::int64_t left = 2 * (n - i) - 1;  // what lies behind the last wanted element is not touched
        if (left > 2 * L) {
            deinterleave(load(src + 2 * i), load(src + 2 * i + L), even, odd);
            store(dst + lo + i, even);
        } else {
            deinterleave(load_partial(src + 2 * i, left), load_partial(src + 2 * i + L, left - L), even, odd);
            store_partial(dst + lo + i, even, n - i);
        }
    }
}

template <class T>
NPCONV_INLINE void planar_row(const StripSource<T>& s, const T* row, int phases, T* dst, std::int64_t phase_stride) {
    if (s.column_stride == 1 || (s.column_stride == 2 && phases == 1)) {
        planar_columns(s, row, 0, s.interior_lo, phases, dst, phase_stride);
        if (s.column_stride == 1)
            planar_interior(s, row, phases, dst, phase_stride);
        else
            planar_every_second(s, row, dst);
        planar_columns(s, row, s.interior_hi, s.columns, phases, dst, phase_stride);
    } else {
        planar_columns(s, row, 0, s.columns, phases, dst, phase_stride);
    }
}

// `count` <= lanes neighbouring channels (dense in memory) of a row: blocks of lanes x lanes are transposed. The lines
// that follow them, `next` elements away (0: none do), are fetched.
template <class T>
NPCONV_INLINE void planar_dense_channels(const StripSource<T>& s, const T* row, std::int64_t count, std::int64_t next, int phases, T* dst,
                                         std::int64_t channel_stride, std::int64_t phase_stride) {
    constexpr int L = lanes<T>;
    for (std::int64_t c = 0; c < count; ++c) {
        planar_columns(s, row + c, 0, s.interior_lo, phases, dst + c * channel_stride, phase_stride);
        planar_columns(s, row + c, s.interior_hi, s.columns, phases, dst + c * channel_stride, phase_stride);
    }
    const std::int64_t lo = s.interior_lo, hi = s.interior_hi, step = phases * s.column_stride;
    if (lo >= hi) return;
    for (int p = 0; p < phases; ++p) {
        const std::int64_t first = lo + ((p - lo) % phases + phases) % phases;
        if (first >= hi) continue;
        const std::int64_t n = (hi - first + phases - 1) / phases;
        const T* src = row + s.column[first] * s.column_stride;
        T* d = dst + p * phase_stride + first / phases;
        for (std::int64_t i = 0; i < n; i += L) {
            const std::int64_t m = n - i < L ? n - i : L;
            if (next)
                for (std::int64_t j = 0; j < m; ++j) prefetch(reinterpret_cast<const char*>(src + (i + j) * step + next));
            Vec<T> r[L];
            NPCONV_UNROLL for (int j = 0; j < L; ++j)
                r[j] = j < m ? (count == L ? load(src + (i + j) * step) : load_partial(src + (i + j) * step, count))
                             : set1(T(0));
            transpose(r);
            NPCONV_UNROLL for (int j = 0; j < L; ++j) {
                if (j >= count) continue;
                T* q = d + j * channel_stride + i;
                if (m == L) store(q, r[j]); else store_partial(q, r[j], m);
            }
        }
    }
}

// Fetches the rows that come next where only every second or third is wanted, and of these some columns: a row is over before
// its first line is there, and where the next channel's lie the hardware doesn't foresee (Zen 3: 256x56 -> 512 and 512x28 ->
// 1024 k1 stride 2 1.09 and 1.12 times as fast; rows that follow one another gain nothing; 4 to 16 rows ahead are alike).
template <class T> class RowsAhead {
public:
    NPCONV_INLINE RowsAhead(const StripSource<T>& s, std::int64_t channels)
        : s_(s), left_(channels * s.rows), first_(s.interior_lo < s.interior_hi ? s.column[s.interior_lo] * s.column_stride : 0),
          bytes_((s.interior_hi - s.interior_lo) * s.column_stride * std::int64_t(sizeof(T))) {
        if (bytes_ > most_bytes) bytes_ = most_bytes;
        for (int i = 0; i < distance; ++i) next();
    }
    NPCONV_INLINE void next() {
        if (--left_ < 0) return;
        if (s_.row_offset[row_] != constant_row) {
            const char* p = reinterpret_cast<const char*>(s_.image + channel_ + s_.row_offset[row_] + first_);
            for (std::int64_t b = 0; b < bytes_; b += 64) prefetch(p + b);
        }
        if (++row_ < s_.rows) return;
        row_ = 0;
        channel_ += s_.channel_stride;
    }

private:
    static constexpr int distance = 6;
    static constexpr std::int64_t most_bytes = 512;
    const StripSource<T>& s_;
    std::int64_t left_, row_ = 0, channel_ = 0;
    const std::int64_t first_;
    std::int64_t bytes_;
};

template <class T>
NPCONV_INLINE void planar_phases(const StripSource<T>& s, std::int64_t channels, int phases, T* dst,
                                 std::int64_t channel_stride, std::int64_t row_stride, std::int64_t phase_stride) {
    constexpr int L = lanes<T>;
    const bool dense_channels = s.channel_stride == 1 && s.column_stride != 1;
    const std::int64_t group = dense_channels ? L : 1;
    RowsAhead<T> ahead(s, dense_channels || s.column_stride == 1 ? 0 : channels);
    for (std::int64_t c = 0; c < channels; c += group) {
        const std::int64_t count = channels - c < group ? channels - c : group;
        for (std::int64_t r = 0; r < s.rows; ++r) {
            ahead.next();
            T* d = dst + c * channel_stride + r * row_stride;
            if (s.row_offset[r] == constant_row) {
                for (std::int64_t k = 0; k < count; ++k)
                    for (int p = 0; p < phases && p < s.columns; ++p)
                        fill(d + k * channel_stride + p * phase_stride, (s.columns - p + phases - 1) / phases, s.value);
                continue;
            }
            const T* row = s.image + c * s.channel_stride + s.row_offset[r];
            if (dense_channels)
                planar_dense_channels(s, row, count, L * sizeof(T) == 64 && channels - c > L ? L : 0, phases, d, channel_stride, phase_stride);
            else
                planar_row(s, row, phases, d, phase_stride);
        }
    }
}

// One and two phases are worth constants: short rows are all overhead otherwise.
template <class T>
void planar(const StripSource<T>& s, std::int64_t channels, int phases, T* dst, std::int64_t channel_stride,
            std::int64_t row_stride, std::int64_t phase_stride) {
    switch (phases) {
        case 1: return planar_phases(s, channels, 1, dst, channel_stride, row_stride, phase_stride);
        case 2: return planar_phases(s, channels, 2, dst, channel_stride, row_stride, phase_stride);
        default: return planar_phases(s, channels, phases, dst, channel_stride, row_stride, phase_stride);
    }
}

// Columns [begin, end) of all channels of a row, one by one.
template <class T>
NPCONV_INLINE void lanes_columns(const StripSource<T>& s, const T* row, std::int64_t channels, std::int64_t begin,
                                 std::int64_t end, Vec<T> constant, T* dst) {
    constexpr int L = lanes<T>;
    for (std::int64_t i = begin; i < end; ++i) {
        T* d = dst + i * L;
        if (s.column[i] < 0) {
            store(d, constant);
            continue;
        }
        for (std::int64_t c = 0; c < channels; ++c) d[c] = element(s, row + c * s.channel_stride, i);
        for (std::int64_t c = channels; c < L; ++c) d[c] = T(0);
    }
}

// The interior of a row with unit column stride: lanes x lanes transposes.
template <class T>
NPCONV_INLINE void lanes_transposed(const StripSource<T>& s, const T* row, std::int64_t channels, T* dst) {
    constexpr int L = lanes<T>;
    const std::int64_t lo = s.interior_lo, n = s.interior_hi - lo;
    if (n <= 0) return;
    const T* src = row + s.column[lo];
    T* d = dst + lo * L;
    for (std::int64_t i = 0; i < n; i += L) {
        const std::int64_t m = n - i < L ? n - i : L;
        Vec<T> r[L];
        if (m == L && channels == L) {
            NPCONV_UNROLL for (int c = 0; c < L; ++c) r[c] = load(src + c * s.channel_stride + i);
            transpose(r);
            NPCONV_UNROLL for (int j = 0; j < L; ++j) store(d + (i + j) * L, r[j]);
            continue;
        }
        NPCONV_UNROLL for (int c = 0; c < L; ++c)
            r[c] = c < channels ? load_partial(src + c * s.channel_stride + i, m) : set1(T(0));
        transpose(r);
        NPCONV_UNROLL for (int j = 0; j < L; ++j)
            if (j < m) store(d + (i + j) * L, r[j]);
    }
}

template <class T> void lanes_loader(const StripSource<T>& s, std::int64_t channels, T* dst) {
    constexpr int L = lanes<T>;
    T constant[L];
    for (int c = 0; c < L; ++c) constant[c] = c < channels ? s.value : T(0);
    for (std::int64_t r = 0; r < s.rows; ++r) {
        T* d = dst + r * s.columns * L;
        if (s.row_offset[r] == constant_row) {
            const Vec<T> v = load(constant);
            for (std::int64_t i = 0; i < s.columns; ++i) store(d + i * L, v);
            continue;
        }
        const T* row = s.image + s.row_offset[r];
        if (s.column_stride == 1) {
            lanes_columns(s, row, channels, 0, s.interior_lo, load(constant), d);
            lanes_transposed(s, row, channels, d);
            lanes_columns(s, row, channels, s.interior_hi, s.columns, load(constant), d);
        } else if (s.channel_stride == 1) {
            const Vec<T> v = load(constant);
            for (std::int64_t i = 0; i < s.columns; ++i) {
                const std::int32_t k = s.column[i];
                store(d + i * L, k < 0 ? v : load_partial(row + k * s.column_stride, channels));
            }
        } else {
            lanes_columns(s, row, channels, 0, s.columns, load(constant), d);
        }
    }
}

}  // namespace

extern const StripKernels strip_kernels = {{planar<float>, lanes_loader<float>}, {planar<double>, lanes_loader<double>}};

}  // namespace npconv::NPCONV_THIS_ISA
