#include "isa/cpuid.hpp"

#include <cstring>
#include <fstream>
#include <string>

#include "isa/isa.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__unix__)
#include <unistd.h>
#endif

namespace npconv {
namespace {

#if defined(__x86_64__)

struct Registers {
    unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned sub = 0) {
    Registers r;
    if (leaf <= __get_cpuid_max(leaf & 0x80000000u, nullptr)) __cpuid_count(leaf, sub, r.a, r.b, r.c, r.d);
    return r;
}

bool bit(unsigned word, int i) { return (word >> i) & 1; }

// XCR0: which register states the operating system saves. Only legal when CPUID says OSXSAVE.
unsigned long xcr0() {
    if (!bit(cpuid(1).c, 27)) return 0;
    unsigned a, d;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (static_cast<unsigned long>(d) << 32) | a;
}

CpuFeatures detect_features() {
    CpuFeatures f;
    const unsigned long saved = xcr0();
    const Registers one = cpuid(1), seven = cpuid(7), seven_one = cpuid(7, 1);
    if ((saved & 0x6) == 0x6 && bit(one.c, 28)) {  // xmm and ymm
        f.avx2 = bit(seven.b, 5);
        f.fma = bit(one.c, 12);
        if ((saved & 0xe0) == 0xe0) {  // opmask and zmm
            f.avx512f = bit(seven.b, 16);
            f.avx512dq = bit(seven.b, 17);
            f.avx512bw = bit(seven.b, 30);
            f.avx512vl = bit(seven.b, 31);
            f.avx512_vnni = f.avx512f && bit(seven.c, 11);
            f.avx512_bf16 = f.avx512f && bit(seven_one.a, 5);
        }
    }
    return f;
}

void identify(CpuInfo& info) {
    Registers r = cpuid(0);
    char vendor[13] = {};
    std::memcpy(vendor, &r.b, 4);
    std::memcpy(vendor + 4, &r.d, 4);
    std::memcpy(vendor + 8, &r.c, 4);
    info.vendor = vendor;
    r = cpuid(1);
    const int family = (r.a >> 8) & 15, model = (r.a >> 4) & 15;
    info.family = family == 15 ? family + ((r.a >> 20) & 255) : family;
    info.model = family == 15 || family == 6 ? model + (((r.a >> 16) & 15) << 4) : model;
    info.stepping = r.a & 15;
    char brand[49] = {};
    for (unsigned i = 0; i < 3; ++i) {
        r = cpuid(0x80000002u + i);
        std::memcpy(brand + 16 * i, &r, 16);
    }
    info.brand = brand;
    info.brand.erase(info.brand.find_last_not_of(' ') + 1);
}

#endif

// What the kernel says, because glibc counts the L3 caches of a whole socket on some AMD machines.
long cache_size([[maybe_unused]] int index, [[maybe_unused]] int name, long otherwise) {
#if defined(__linux__)
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/size");
    long size = 0;
    char unit = 0;
    if (file >> size >> unit && size > 0) return unit == 'K' ? size << 10 : unit == 'M' ? size << 20 : size;
#endif
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    const long n = sysconf(name);
    if (n > 0) return n;
#endif
    return otherwise;
}

CpuInfo identify_cpu() {
    CpuInfo info;
#if defined(__x86_64__)
    identify(info);
#endif
    const CpuFeatures& f = cpu_features();
    const struct {
        bool has;
        const char* name;
    } features[] = {{f.avx2, "avx2"},         {f.avx512_bf16, "avx512_bf16"}, {f.avx512_vnni, "avx512_vnni"},
                    {f.avx512bw, "avx512bw"}, {f.avx512dq, "avx512dq"},       {f.avx512f, "avx512f"},
                    {f.avx512vl, "avx512vl"}, {f.fma, "fma"}};
    for (const auto& feature : features)
        if (feature.has) info.features.push_back(feature.name);
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    info.l1 = cache_size(0, _SC_LEVEL1_DCACHE_SIZE, info.l1);
    info.l2 = cache_size(2, _SC_LEVEL2_CACHE_SIZE, info.l2);
    info.l3 = cache_size(3, _SC_LEVEL3_CACHE_SIZE, info.l3);
#endif
    return info;
}

}  // namespace

const CpuFeatures& cpu_features() {
#if defined(__x86_64__)
    static const CpuFeatures features = detect_features();
#else
    static const CpuFeatures features;
#endif
    return features;
}

const CpuInfo& cpu_info() {
    static const CpuInfo info = identify_cpu();
    return info;
}

}  // namespace npconv
