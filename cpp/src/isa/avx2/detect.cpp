#include "isa/cpuid.hpp"
#include "isa/isa.hpp"

namespace npconv::avx2 {

extern const Isa description;
const Isa description = {"avx2", 0, 32, 16, [] { return cpu_features().avx2 && cpu_features().fma; }};

}  // namespace npconv::avx2
