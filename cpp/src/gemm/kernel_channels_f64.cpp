#include "gemm/kernel_channels.hpp"

namespace npconv::NPCONV_THIS_ISA {

void sweep_channels(const DenseSweep<double>& a) { sweep<double>(a); }

}  // namespace npconv::NPCONV_THIS_ISA
