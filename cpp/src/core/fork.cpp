#include "core/fork.hpp"

#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace npconv {
namespace {

struct Registry {
    std::mutex mutex;
    std::vector<std::mutex*> held;
    std::vector<void (*)()> called;

    Registry();
};

Registry& registry() {
    static Registry& r = *new Registry;
    return r;
}

void before_fork() {
    registry().mutex.lock();
    for (std::mutex* m : registry().held) m->lock();
}

void after_fork_in_parent() {
    for (std::mutex* m : registry().held) m->unlock();
    registry().mutex.unlock();
}

void after_fork_in_child() {
    after_fork_in_parent();
    for (void (*f)() : registry().called) f();
}

Registry::Registry() {
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
#endif
}

}  // namespace

void hold_over_fork(std::mutex& m) {
    const std::lock_guard<std::mutex> lock(registry().mutex);
    registry().held.push_back(&m);
}

void call_after_fork(void (*function)()) {
    const std::lock_guard<std::mutex> lock(registry().mutex);
    registry().called.push_back(function);
}

}  // namespace npconv
