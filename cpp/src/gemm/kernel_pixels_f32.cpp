#include "gemm/kernel_pixels.hpp"

namespace npconv::NPCONV_THIS_ISA {
extern const SweepKernel<float> pixel_kernel_f32 = pixel_kernel<float>;
}  // namespace npconv::NPCONV_THIS_ISA
