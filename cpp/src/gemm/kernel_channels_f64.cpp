#include "gemm/kernel_channels.hpp"

namespace npconv::NPCONV_THIS_ISA {

extern const SweepKernel<double> channel_kernel_f64 = {2 * lanes<double>, lanes<double>, most_pixels, 1, 0, 0, 0, false, sweep<double>};

}  // namespace npconv::NPCONV_THIS_ISA
