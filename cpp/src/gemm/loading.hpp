// Brings X where the kernels can read it: padded polyphase strips of the input rows of a band, or im2col panels.
#pragma once

#include <vector>

#include "gemm/geometry.hpp"
#include "gemm/kernel.hpp"
#include "npconv/plan.hpp"
#include "strip/kernel.hpp"

namespace npconv {

template <class T> class DenseLoading {
public:
    DenseLoading(const ConvDesc&, const DenseConfig&, const DenseGeometry&, const SweepKernel<T>&, const PackKernels<T>&, const StripKernelsOf<T>&);

    const std::vector<std::ptrdiff_t>& taps() const { return taps_; }
    // What one band of X takes; vectors may read behind its end.
    std::size_t band_bytes() const;
    std::size_t scratch_bytes() const;
    // Channels [c0, c1) of a band of one group to x, which holds the whole band.
    void load(const ConvArgs&, std::int64_t n, std::int64_t group, const DenseBand&, std::int64_t c0, std::int64_t c1, T* x,
              void* scratch) const noexcept;

private:
    struct Target {
        T* x;
        std::int64_t channel_stride, row_stride, phase_stride;
    };
    void load_strip(const ConvArgs&, const T* image, const DenseBand&, std::int64_t c0, std::int64_t c1, const Target&,
                    char* scratch) const noexcept;
    void set_columns(const DenseBand&, std::int64_t kw, StripSource<T>&, std::int32_t* columns) const noexcept;
    // Whether the pixels of a band are one run of each channel of the image: panels need no strips then.
    bool is_one_run(const ConvArgs&, const DenseBand&) const noexcept;
    std::size_t strip_bytes() const;
    std::size_t piece_bytes() const;
    std::size_t row_table_bytes() const;
    std::size_t column_table_bytes() const;

    const ConvDesc& desc_;
    const DenseConfig& config_;
    const DenseGeometry& g_;
    const SweepKernel<T>& kernel_;
    const PackKernels<T>& packing_;
    const StripKernelsOf<T>& strips_;
    std::vector<std::ptrdiff_t> taps_;  // where each tap of the first channel lies in the strip
};

extern template class DenseLoading<float>;
extern template class DenseLoading<double>;

}  // namespace npconv
