// The arithmetic that machine constants are measured with.
#pragma once

#include <cstddef>
#include <cstdint>

namespace npconv {

struct MeasureKernels {
    // `rounds` rounds of independent FMAs in registers; returns how many FLOP that was.
    double (*fma_f32)(std::int64_t rounds);
    double (*fma_f64)(std::int64_t rounds);
    // dst[i] = src[i], whole vectors; n is a multiple of 64 bytes.
    void (*copy)(void* dst, const void* src, std::size_t bytes);
    // Reads everything.
    void (*read)(const void* src, std::size_t bytes);
};

#define NPCONV_ISA(isa) namespace isa { extern const MeasureKernels measure_kernels; }
#include "isa/list.inc"

}  // namespace npconv
