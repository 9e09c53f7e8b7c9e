// What a forked child needs: locks that nobody holds, and a chance to forget the threads it did not inherit.
#pragma once

#include <mutex>

namespace npconv {

// The lock is taken before every fork and given back in parent and child, so that no child inherits it locked by a
// thread that does not exist there. `m` must live for ever. Such locks are never nested in each other.
void hold_over_fork(std::mutex& m);

// Called in every forked child.
void call_after_fork(void (*function)());

}  // namespace npconv
