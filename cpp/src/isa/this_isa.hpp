// What a kernel file includes: the vector operations of the ISA level that this object is compiled for.
#pragma once

#ifndef NPCONV_THIS_ISA
#error "only kernel*.cpp files include this_isa.hpp; CMake compiles them once per ISA level"
#endif

// Everything a kernel uses has internal linkage and is inlined: see the nm check in tests/test_codebase.py.
#define NPCONV_INLINE inline __attribute__((always_inline))
#define NPCONV_INLINE_LAMBDA __attribute__((always_inline))
#define NPCONV_NOINLINE __attribute__((noinline))
#define NPCONV_RESTRICT __restrict__
#define NPCONV_UNROLL _Pragma("GCC unroll 64")
#define NPCONV_NO_UNROLL _Pragma("GCC unroll 1")
// Keeps the compiler from loading ahead of this point what is read through p: too many values at once mean spills.
#define NPCONV_OPAQUE(p) __asm__("" : "+r"(p))

#define NPCONV_STRING_(x) #x
#define NPCONV_STRING(x) NPCONV_STRING_(x)
#define NPCONV_SIMD_PATH(isa) NPCONV_STRING(isa/simd.hpp)
#include NPCONV_SIMD_PATH(NPCONV_THIS_ISA)
