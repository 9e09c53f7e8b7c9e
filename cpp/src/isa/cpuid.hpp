// What the CPU says of itself. A feature counts only if the operating system saves its registers too (XGETBV).
#pragma once

namespace npconv {

struct CpuFeatures {
    bool avx2 = false, fma = false;
    bool avx512f = false, avx512bw = false, avx512dq = false, avx512vl = false;
    bool avx512_vnni = false, avx512_bf16 = false;
};
const CpuFeatures& cpu_features();

}  // namespace npconv
