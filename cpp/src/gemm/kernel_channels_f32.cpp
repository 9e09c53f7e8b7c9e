#include "gemm/kernel_channels.hpp"

namespace npconv::NPCONV_THIS_ISA {

extern const SweepKernel<float> channel_kernel_f32 = {2 * lanes<float>, lanes<float>, most_pixels, 1, 0, 0, 0, false, sweep<float>};

}  // namespace npconv::NPCONV_THIS_ISA
