#include "threading/parallel_for.hpp"

#include <algorithm>
#include <atomic>
#include <memory>

#include "threading/region.hpp"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace npconv {
namespace {

// One worker's share of the tasks; padded so that workers don't fight for cache lines.
struct alignas(64) Share {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
};

constexpr int max_stack_shares = 16;

class Shares {
public:
    Shares(std::int64_t n, int workers) : workers_(workers), shares_(stack_) {
        if (workers > max_stack_shares) {
            heap_ = std::make_unique<Share[]>(static_cast<std::size_t>(workers));
            shares_ = heap_.get();
        }
        reset(n);
    }
    void reset(std::int64_t n) {
        for (int w = 0; w < workers_; ++w) {
            shares_[w].next.store(n * w / workers_, std::memory_order_relaxed);
            shares_[w].end = n * (w + 1) / workers_;
        }
    }
    void fetch(int worker) const { __builtin_prefetch(&shares_[worker < workers_ ? worker : 0], 1); }
    // Own share first, then what slower workers have left.
    void run(int worker, TaskRef body) {
        for (int k = 0; k < workers_; ++k) {
            Share& s = shares_[(worker + k) % workers_];
            for (;;) {
                const std::int64_t task = s.next.fetch_add(1, std::memory_order_relaxed);
                if (task >= s.end) break;
                body(task, worker);
            }
        }
    }

private:
    int workers_;
    Share stack_[max_stack_shares];
    std::unique_ptr<Share[]> heap_;
    Share* shares_;
};

unsigned float_control() {
#if defined(__SSE2__)
    return _mm_getcsr();
#else
    return 0;
#endif
}

void set_float_control([[maybe_unused]] unsigned value) {
#if defined(__SSE2__)
    _mm_setcsr(value);
#endif
}

constexpr unsigned flush_bits = 0x8040;  // FTZ and DAZ of MXCSR

}  // namespace

FlushSubnormals::FlushSubnormals(bool enable) : saved_(float_control()), enabled_(enable) {
    if (enable)
        set_float_control(saved_ | flush_bits);
    else
        set_float_control(saved_ & ~flush_bits);
}

FlushSubnormals::~FlushSubnormals() { set_float_control(saved_); }

void parallel_for(std::int64_t n, int threads, TaskRef body) {
    const int workers = static_cast<int>(std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(n, 1)));
    if (workers == 1) {
        for (std::int64_t task = 0; task < n; ++task) body(task, 0);
        return;
    }
    Shares shares(n, workers);
    const unsigned control = float_control();
    // By value: one line that the workers read.
    const auto run = [&shares, workers, control, body](int worker, int started, Barrier&) {
        shares.fetch(worker);
        const unsigned own = float_control();
        set_float_control(control);  // the caller's FlushSubnormals holds in every worker
        for (int w = worker; w < workers; w += started) shares.run(w, body);
        set_float_control(own);
    };
    run_region(workers, run, body.object());
}

void parallel_phases(int threads, std::initializer_list<Phase> phases, std::int64_t repeat, std::int64_t* round) {
    std::int64_t most = 1;
    for (const Phase& p : phases) most = std::max(most, p.tasks);
    const int workers = static_cast<int>(std::clamp<std::int64_t>(threads, 1, most));
    if (workers == 1) {
        for (std::int64_t r = 0; r < repeat; ++r) {
            if (round) *round = r;
            for (const Phase& p : phases)
                for (std::int64_t task = 0; task < p.tasks; ++task) p.body(task, 0);
        }
        return;
    }
    Shares shares(0, workers);
    const unsigned control = float_control();
    run_region(workers, [&](int worker, int started, Barrier& barrier) {
        const unsigned own = float_control();
        set_float_control(control);
        for (std::int64_t r = 0; r < repeat; ++r)
            for (const Phase& p : phases) {
                // Worker 0 deals the tasks out between two barriers, while nobody is taking any.
                if (worker == 0) {
                    if (round) *round = r;
                    shares.reset(p.tasks);
                }
                barrier.wait();
                for (int w = worker; w < workers; w += started) shares.run(w, p.body);
                barrier.wait();
            }
        set_float_control(own);
    });
}

}  // namespace npconv
