// A parallel region of one of two back ends: OpenMP, or std::thread for the thread sanitizer.
#pragma once

#include <functional>

namespace npconv {

class Barrier {
public:
    virtual void wait() = 0;

protected:
    ~Barrier() = default;
};

// Runs body(worker, started, barrier) on 0 <= worker < started workers; started <= wanted, fewer when the run-time
// gives fewer.
void run_region(int wanted, const std::function<void(int worker, int started, Barrier&)>& body);

}  // namespace npconv
