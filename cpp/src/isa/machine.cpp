#include "isa/machine.hpp"

#include <atomic>
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>

#include "isa/isa.hpp"

namespace npconv {
namespace {

struct Field {
    const char* name;
    double Machine::*value;
    double most;
};

constexpr double unlimited = std::numeric_limits<double>::max();

// What is measured and saved; cache capacities come from the operating system. Beside arithmetic nothing streams as fast as a mere
// copy may, on any CPU that the costs were fitted to: Zen 5 copies 256 and 127 GB/s in L2 and L3, and with such figures the choices of
// the built-in layers lose 9 % on average, with 60 to 90 and 30 to 40 GB/s 6 %. Memory is no faster than L3.
constexpr Field fields[] = {
    {"fma_f32", &Machine::fma_f32, unlimited},
    {"fma_f64", &Machine::fma_f64, unlimited},
    {"l2_bandwidth", &Machine::l2_bandwidth, 100e9},
    {"l3_bandwidth", &Machine::l3_bandwidth, 40e9},
    {"dram_bandwidth", &Machine::dram_bandwidth, 40e9},
    {"dram_total", &Machine::dram_total, unlimited},
    {"parallel_overhead", &Machine::parallel_overhead, unlimited},
};

// Family 26 without the mobile parts whose data paths are 256 bits wide.
bool is_zen5(const CpuInfo& cpu) {
    const int line = cpu.model >> 4;
    return cpu.vendor == "AuthenticAMD" && cpu.family == 26 && line != 2 && line != 6;
}

// What is known of cores with AVX-512 other than Zen 4.
void know_wide_core(Machine& m) {
    const CpuInfo& cpu = cpu_info();
    if (cpu.vendor == "GenuineIntel" && cpu.l2 >= 2 << 20) {  // Sapphire Rapids: two FMAs a cycle; L3 and memory are far away
        m.fma_f32 = 165e9;
        m.l2_bandwidth = 100e9;
        m.l3_bandwidth = 19e9;
        m.dram_bandwidth = 13e9;
        m.dram_total = 130e9;
    }
    if (is_zen5(cpu)) {  // two FMAs a cycle
        m.quick = true;
        m.move_share = 0.57;
        m.fma_f32 = 265e9;
        m.l2_bandwidth = 90e9;
        m.l3_bandwidth = 40e9;
        m.dram_bandwidth = 40e9;
        m.dram_total = 48e9;
    }
    m.fma_f64 = m.fma_f32 / 2;
    // Fits to 1x1 layers of Sapphire Rapids, whose term takes 5 ns; Zen 4's takes 8 and hides all that, Zen 5's 3.4 hide it, too.
    if (cpu.vendor == "GenuineIntel") m.near_seconds = 5.8e-9, m.line_seconds = 6.2e-9, m.page_seconds = 7.2e-9;
}

std::mutex mutex;
std::atomic<const Machine*> measured{nullptr};

}  // namespace

double Machine::bandwidth(double bytes, int threads) const {
    const double per_core = bytes / threads;
    if (per_core <= l2_bytes) return l2_bandwidth * threads;
    if (bytes <= l3_bytes) return l3_bandwidth * threads;
    return std::min(dram_bandwidth * threads, dram_total);
}

Machine builtin_machine(const Isa& isa) {
    // Of a Zen 4 core: one 512-bit or two 256-bit FMAs a cycle, half of that for the 128-bit level without FMA.
    Machine m;
    if (isa.vector_bytes == 16) m.fma_f32 /= 4;
    m.fma_f64 = m.fma_f32 / 2;
    return m;
}

const Machine& current_machine() {
    if (const Machine* m = measured.load(std::memory_order_acquire)) return *m;
    static const Machine start = [] {
        Machine m = builtin_machine(current_isa());
        m.l1_bytes = static_cast<double>(cpu_info().l1);
        m.l2_bytes = static_cast<double>(cpu_info().l2);
        m.l3_bytes = static_cast<double>(cpu_info().l3);
        if (current_isa().registers == 32) know_wide_core(m);
        return m;
    }();
    return start;
}

std::map<std::string, double> machine_constants() {
    std::map<std::string, double> constants;
    for (const Field& f : fields) constants[f.name] = current_machine().*f.value;
    return constants;
}

void set_machine_constants(const std::map<std::string, double>& constants) {
    const std::lock_guard<std::mutex> lock(mutex);
    // Readers may hold the old one for the length of a plan search: a few dozen bytes a change are kept, never freed.
    Machine* m = new Machine(current_machine());
    for (const Field& f : fields) {
        const auto found = constants.find(f.name);
        if (found != constants.end() && std::isfinite(found->second) && found->second > 0) m->*f.value = std::min(found->second, f.most);
    }
    measured.store(m, std::memory_order_release);
}

}  // namespace npconv
