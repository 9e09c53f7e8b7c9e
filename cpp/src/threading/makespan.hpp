// When parallel_for would be done, for the estimates.
#pragma once

#include <algorithm>
#include <cstdint>

namespace npconv {

// Seconds until the last of `workers` is done with tasks that take cost(task) each: a worker starts with its contiguous
// share and then takes from others'. Problems of many tasks are balanced anyway: only the average and the largest count.
template <class F> double makespan(std::int64_t tasks, int workers, F cost) {
    constexpr std::int64_t most_tasks = 128;
    constexpr int most_workers = 64;
    if (tasks > most_tasks || workers > most_workers) {
        double total = 0, largest = 0;
        for (std::int64_t i = 0; i < most_tasks; ++i) {
            const double c = cost(i * tasks / most_tasks);
            total += c;
            largest = std::max(largest, c);
        }
        return total / most_tasks * static_cast<double>(tasks) / workers + 0.5 * largest;
    }
    double busy[most_workers] = {}, last = 0;
    std::int64_t next[most_workers], end[most_workers];
    for (int w = 0; w < workers; ++w) {
        next[w] = tasks * w / workers;
        end[w] = tasks * (w + 1) / workers;
    }
    for (std::int64_t i = 0; i < tasks; ++i) {
        const int w = static_cast<int>(std::min_element(busy, busy + workers) - busy);
        int from = w;
        while (next[from] == end[from]) from = (from + 1) % workers;
        busy[w] += cost(next[from]++);
        last = std::max(last, busy[w]);
    }
    return last;
}

}  // namespace npconv
