#include "threading/region.hpp"

#include <atomic>
#include <thread>

#include "threading/fork.hpp"

#ifdef NPCONV_OPENMP
#include <omp.h>
#else
#include <condition_variable>
#include <mutex>
#include <vector>
#endif

namespace npconv {

#ifdef NPCONV_OPENMP

namespace {

class OmpBarrier final : public Barrier {
public:
    void wait() override {
#pragma omp barrier
    }
};

void open_region(int wanted, RegionRef body, const void* first) {
    // Each line that the caller has just written takes its way to another core, 50 to 200 ns: scalars arrive with what OpenMP passes, and
    // what they point to is fetched side by side, not one after the other.
    const void* const object = body.object();
    const RegionRef::Call call = body.call();
#pragma omp parallel num_threads(wanted) firstprivate(object, call, first)
    {
        __builtin_prefetch(object);
        __builtin_prefetch(first);
        OmpBarrier barrier;
        call(object, omp_get_thread_num(), omp_get_num_threads(), barrier);
    }
}

}  // namespace

void run_region(int wanted, RegionRef body, const void* first) {
    mark_pool_used();
    if (forked_with_pool()) {
        // A forked child inherits GNU OpenMP's idea of a pool whose threads did not survive the fork: a region opened
        // by the forking thread would wait for them for ever. A fresh thread gets a pool of its own.
        std::thread([&] { open_region(wanted, body, first); }).join();
        return;
    }
    open_region(wanted, body, first);
}

#else

namespace {

class StdBarrier final : public Barrier {
public:
    explicit StdBarrier(int n) : count_(n), waiting_(0), generation_(0) {}
    void wait() override {
        std::unique_lock<std::mutex> lock(mutex_);
        const int generation = generation_;
        if (++waiting_ == count_) {
            waiting_ = 0;
            ++generation_;
            all_here_.notify_all();
            return;
        }
        all_here_.wait(lock, [&] { return generation != generation_; });
    }

private:
    std::mutex mutex_;
    std::condition_variable all_here_;
    int count_, waiting_, generation_;
};

}  // namespace

void run_region(int wanted, RegionRef body, const void*) {
    StdBarrier barrier(wanted);
    std::vector<std::thread> workers;
    for (int w = 1; w < wanted; ++w) workers.emplace_back([&, w] { body(w, wanted, barrier); });
    body(0, wanted, barrier);
    for (std::thread& t : workers) t.join();
}

#endif

}  // namespace npconv
