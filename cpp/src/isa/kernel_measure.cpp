// FMA peak and memory streams. The FMA loop keeps 12 (16 registers) or 24 chains in flight, more than latency times
// throughput of any current core; the asm barriers stop the compiler from merging the identical chains.
#include "isa/kernel.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

template <class T> double fma_rounds(std::int64_t rounds) {
    constexpr int chains = registers == 32 ? 24 : 12;
    Vec<T> acc[chains];
    NPCONV_UNROLL for (int i = 0; i < chains; ++i) acc[i] = set1(T(i));
    Vec<T> a = set1(T(0.999)), b = set1(T(0.001));
    __asm__ volatile("" : "+m"(a), "+m"(b));
    for (std::int64_t r = 0; r < rounds; ++r)
        NPCONV_UNROLL for (int i = 0; i < chains; ++i) {
            acc[i] = fma(acc[i], a, b);
#if defined(__x86_64__)
            __asm__ volatile("" : "+v"(acc[i]));
#else
            __asm__ volatile("" : "+w"(acc[i]));
#endif
        }
    Vec<T> total = acc[0];
    NPCONV_UNROLL for (int i = 1; i < chains; ++i) total = add(total, acc[i]);
    volatile T sink = sum(total);
    (void)sink;
    return 2.0 * chains * lanes<T> * double(rounds);
}

void copy_bytes(void* dst, const void* src, std::size_t bytes) {
    float* d = static_cast<float*>(dst);
    const float* s = static_cast<const float*>(src);
    for (std::size_t i = 0; i < bytes / sizeof(float); i += 4 * lanes<float>)
        NPCONV_UNROLL for (int k = 0; k < 4; ++k) store(d + i + k * lanes<float>, load(s + i + k * lanes<float>));
}

void read_bytes(const void* src, std::size_t bytes) {
    const float* s = static_cast<const float*>(src);
    Vec<float> acc[4];
    NPCONV_UNROLL for (int k = 0; k < 4; ++k) acc[k] = set1(0.f);
    for (std::size_t i = 0; i < bytes / sizeof(float); i += 4 * lanes<float>)
        NPCONV_UNROLL for (int k = 0; k < 4; ++k) acc[k] = add(acc[k], load(s + i + k * lanes<float>));
    volatile float sink = sum(add(add(acc[0], acc[1]), add(acc[2], acc[3])));
    (void)sink;
}

}  // namespace

extern const MeasureKernels measure_kernels = {fma_rounds<float>, fma_rounds<double>, copy_bytes, read_bytes};

}  // namespace npconv::NPCONV_THIS_ISA
