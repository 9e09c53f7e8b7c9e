// The only way to use more than one core. This room alone knows OpenMP.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <type_traits>

namespace npconv {

// A reference to a callable void(std::int64_t task, int worker) noexcept. `worker` (< threads) exists only to pick
// scratch memory; results must depend on the task alone.
class TaskRef {
public:
    template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, TaskRef>>>
    TaskRef(F&& f)  // NOLINT: implicit on purpose
        : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* o, std::int64_t task, int worker) {
              (*static_cast<std::remove_reference_t<F>*>(o))(task, worker);
          }) {}
    void operator()(std::int64_t task, int worker) const { call_(object_, task, worker); }
    const void* object() const { return object_; }

private:
    void* object_;
    void (*call_)(void*, std::int64_t, int);
};

struct Phase {
    std::int64_t tasks;
    TaskRef body;
};

// Runs body(task, worker) for 0 <= task < n. Each worker starts with a contiguous share (locality) and then takes
// tasks from slower workers' shares (balance on a busy machine).
void parallel_for(std::int64_t n, int threads, TaskRef body);

// `repeat` times all phases one after the other in one parallel region, a barrier after each. Phase bodies read the
// current round through `round`, which is written before the round's first phase starts; null if not needed.
void parallel_phases(int threads, std::initializer_list<Phase> phases, std::int64_t repeat = 1,
                     std::int64_t* round = nullptr);

// Subnormals cost hundreds of cycles each: strict keeps them, the other classes flush inside parallel bodies.
class FlushSubnormals {
public:
    explicit FlushSubnormals(bool enable);
    ~FlushSubnormals();

private:
    unsigned saved_;
    bool enabled_;
};

}  // namespace npconv
