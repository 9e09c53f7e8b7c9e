#include "threading/measure.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "isa/isa.hpp"
#include "isa/kernel.hpp"
#include "threading/cpu_count.hpp"
#include "threading/parallel_for.hpp"

namespace npconv {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

const MeasureKernels& kernels(const Isa& isa) {
    static const MeasureKernels* const table[] = {
#define NPCONV_ISA(n) &n::measure_kernels,
#include "isa/list.inc"
    };
    return *table[isa.level];
}

// Best of many short runs: what the machine can do, not what its other tenants leave.
template <class F> double best_rate(double seconds, F&& amount_of_one_run) {
    double best = 0;
    const Clock::time_point start = Clock::now();
    do {
        const Clock::time_point t = Clock::now();
        const double amount = amount_of_one_run();
        best = std::max(best, amount / seconds_since(t));
    } while (seconds_since(start) < seconds);
    return best;
}

struct AlignedFree {
    void operator()(char* p) const { ::operator delete(p, std::align_val_t(64)); }
};
using Buffer = std::unique_ptr<char, AlignedFree>;

Buffer make_buffer(std::size_t bytes) {
    Buffer b(static_cast<char*>(::operator new(bytes, std::align_val_t(64))));
    std::memset(b.get(), 1, bytes);
    return b;
}

}  // namespace

double measure_peak_flops(DType dtype, int threads, double seconds) {
    const MeasureKernels& k = kernels(current_isa());
    std::vector<double> flops(static_cast<std::size_t>(threads));
    return best_rate(seconds, [&] {
        const auto body = [&](std::int64_t task, int) {
            flops[static_cast<std::size_t>(task)] = (dtype == DType::f32 ? k.fma_f32 : k.fma_f64)(100000);
        };
        parallel_for(threads, threads, body);
        double total = 0;
        for (double f : flops) total += f;
        return total;
    });
}

double measure_bandwidth(int threads, double seconds, std::size_t bytes) {
    const MeasureKernels& k = kernels(current_isa());
    const std::size_t share = std::max<std::size_t>(bytes / static_cast<std::size_t>(2 * threads) / 4096 * 4096, 4096);
    std::vector<Buffer> from, to;
    for (int t = 0; t < threads; ++t) {
        from.push_back(make_buffer(share));
        to.push_back(make_buffer(share));
    }
    const int repeats = static_cast<int>(std::max<std::size_t>(1, (std::size_t(4) << 20) / share));
    return best_rate(seconds, [&] {
        const auto body = [&](std::int64_t task, int) {
            for (int r = 0; r < repeats; ++r)
                k.copy(to[static_cast<std::size_t>(task)].get(), from[static_cast<std::size_t>(task)].get(), share);
        };
        parallel_for(threads, threads, body);
        return 2.0 * static_cast<double>(share) * repeats * threads;
    });
}

std::map<std::string, double> measure_machine_constants(double seconds) {
    const double each = seconds / 7;
    const int threads = default_threads();
    std::map<std::string, double> m;
    m["fma_f32"] = measure_peak_flops(DType::f32, 1, each);
    m["fma_f64"] = measure_peak_flops(DType::f64, 1, each);
    m["l2_bandwidth"] = measure_bandwidth(1, each, static_cast<std::size_t>(cpu_info().l2) / 2);
    m["l3_bandwidth"] = measure_bandwidth(1, each, static_cast<std::size_t>(cpu_info().l3) / 4);
    const std::size_t dram = std::min<std::size_t>(static_cast<std::size_t>(cpu_info().l3) * 4, std::size_t(256) << 20);
    m["dram_bandwidth"] = measure_bandwidth(1, each, dram);
    m["dram_total"] = measure_bandwidth(threads, each, dram);
    const auto nothing = [](std::int64_t, int) {};
    m["parallel_overhead"] = 1 / best_rate(each, [&] {
        parallel_for(threads, threads, nothing);
        return 1.0;
    });
    return m;
}

}  // namespace npconv
