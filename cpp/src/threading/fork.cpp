#include "threading/fork.hpp"

#include <atomic>

#include "core/fork.hpp"

namespace npconv {
namespace {

std::atomic<bool> pool_used{false};
std::atomic<bool> forked{false};

void remember_fork() {
    if (pool_used.load(std::memory_order_relaxed)) forked.store(true, std::memory_order_relaxed);
}

}  // namespace

void mark_pool_used() {
    static const bool registered = (call_after_fork(remember_fork), true);
    (void)registered;
    pool_used.store(true, std::memory_order_relaxed);
}

bool forked_with_pool() { return forked.load(std::memory_order_relaxed); }

}  // namespace npconv
