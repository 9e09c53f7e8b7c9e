#include "threading/cpu_count.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "core/fork.hpp"

namespace npconv {
namespace {

// "123" or OpenMP's list "4,2": the first positive number, else 0.
int threads_from_environment(const char* name) {
    const char* text = std::getenv(name);
    if (!text) return 0;
    char* end = nullptr;
    const long n = std::strtol(text, &end, 10);
    return end != text && n > 0 && n < 100000 ? static_cast<int>(n) : 0;
}

int start_threads() {
    if (const int n = threads_from_environment("NPCONV_NUM_THREADS")) return n;
    if (const int n = threads_from_environment("OMP_NUM_THREADS")) return n;
    int n = affinity_cpus();
    const double quota = cgroup_quota();
    if (quota > 0) n = std::min(n, std::max(1, static_cast<int>(std::ceil(quota))));
    return n;
}

std::atomic<int> chosen_threads{0};
std::atomic<int> running_calls{0};

}  // namespace

int affinity_cpus() {
#if defined(__linux__)
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1u, std::thread::hardware_concurrency());
}

double cgroup_quota() {
#if defined(__linux__)
    std::ifstream v2("/sys/fs/cgroup/cpu.max");
    std::string quota;
    double period = 0;
    if (v2 >> quota >> period) return quota == "max" || period <= 0 ? 0 : std::atof(quota.c_str()) / period;
    std::ifstream q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), p("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    double quota_us = 0;
    if (q >> quota_us && p >> period && quota_us > 0 && period > 0) return quota_us / period;
#endif
    return 0;
}

int default_threads() {
    const int n = chosen_threads.load(std::memory_order_relaxed);
    if (n > 0) return n;
    static const int start = start_threads();
    return start;
}

void set_default_threads(int n) { chosen_threads.store(n, std::memory_order_relaxed); }

RunningCall::RunningCall() {
    // A child has none of the calls that were running in its parent.
    static const bool registered = (call_after_fork([] { running_calls.store(0); }), true);
    (void)registered;
    running_ = running_calls.fetch_add(1, std::memory_order_relaxed) + 1;
}
RunningCall::~RunningCall() { running_calls.fetch_sub(1, std::memory_order_relaxed); }
int RunningCall::share(int threads) const { return std::max(1, threads / running_); }

const char* threading_backend() {
#ifdef NPCONV_OPENMP
    return "openmp";
#else
    return "std::thread";
#endif
}

}  // namespace npconv
