#include "isa/cpuid.hpp"
#include "isa/isa.hpp"

namespace npconv::avx512 {

extern const Isa description;
const Isa description = {"avx512", 0, 64, 32, [] {
                             const CpuFeatures& f = cpu_features();
                             return f.avx2 && f.fma && f.avx512f && f.avx512bw && f.avx512dq && f.avx512vl;
                         }};

}  // namespace npconv::avx512
