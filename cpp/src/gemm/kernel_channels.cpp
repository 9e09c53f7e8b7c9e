#include "gemm/kernel_channels.hpp"

namespace npconv::NPCONV_THIS_ISA {

void sweep_channels(const DenseSweep<double>&);  // kernel_channels_f64.cpp

extern const PerType<SweepKernel> channel_kernels = {{2 * lanes<float>, lanes<float>, most_pixels, 1, sweep<float>},
                                                     {2 * lanes<double>, lanes<double>, most_pixels, 1, sweep_channels}};

}  // namespace npconv::NPCONV_THIS_ISA
