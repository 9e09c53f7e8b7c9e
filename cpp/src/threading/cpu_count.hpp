// How many threads a call may use, and the settings that say so.
#pragma once

namespace npconv {

int affinity_cpus();   // CPUs that this process may run on
double cgroup_quota(); // CPUs' worth of time that the control group grants; 0 = unlimited

// Start value: NPCONV_NUM_THREADS, else OMP_NUM_THREADS, else affinity and quota.
int default_threads();
void set_default_threads(int n);  // n >= 1; 0 = back to the start value

// When several calls run at once each takes its share of the threads. Counts as a running call while it lives.
class RunningCall {
public:
    RunningCall();
    ~RunningCall();
    int share(int threads) const;

private:
    int running_;
};

const char* threading_backend();  // "openmp 4.5", "std::thread"

}  // namespace npconv
