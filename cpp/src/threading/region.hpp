// A parallel region of one of two back ends: OpenMP, or std::thread for the thread sanitizer.
#pragma once

#include <type_traits>

namespace npconv {

class Barrier {
public:
    virtual void wait() = 0;

protected:
    ~Barrier() = default;
};

// A reference to a callable void(int worker, int started, Barrier&).
class RegionRef {
public:
    template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, RegionRef>>>
    RegionRef(const F& f)  // NOLINT: implicit on purpose
        : RegionRef(&f, [](const void* o, int worker, int started, Barrier& barrier) { (*static_cast<const F*>(o))(worker, started, barrier); }) {}
    using Call = void (*)(const void*, int, int, Barrier&);
    RegionRef(const void* object, Call call) : object_(object), call_(call) {}
    void operator()(int worker, int started, Barrier& barrier) const { call_(object_, worker, started, barrier); }
    const void* object() const { return object_; }
    Call call() const { return call_; }

private:
    const void* object_;
    Call call_;
};

// Runs body(worker, started, barrier) on 0 <= worker < started workers; started <= wanted, fewer when the run-time
// gives fewer. `first` is what bodies read first, besides the callable: workers fetch both while they wait for neither.
void run_region(int wanted, RegionRef body, const void* first = nullptr);

}  // namespace npconv
