#include "threading/fork.hpp"

#include <atomic>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace npconv {
namespace {

std::atomic<bool> pool_used{false};
std::atomic<bool> forked{false};

void after_fork_in_child() {
    if (pool_used.load(std::memory_order_relaxed)) forked.store(true, std::memory_order_relaxed);
}

}  // namespace

void mark_pool_used() {
#if defined(__unix__) || defined(__APPLE__)
    static const bool registered = pthread_atfork(nullptr, nullptr, after_fork_in_child) == 0;
    (void)registered;
#endif
    pool_used.store(true, std::memory_order_relaxed);
}

bool forked_with_pool() { return forked.load(std::memory_order_relaxed); }

}  // namespace npconv
