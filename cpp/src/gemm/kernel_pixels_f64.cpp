#include "gemm/kernel_pixels.hpp"

namespace npconv::NPCONV_THIS_ISA {
extern const SweepKernel<double> pixel_kernel_f64 = pixel_kernel<double>;
}  // namespace npconv::NPCONV_THIS_ISA
