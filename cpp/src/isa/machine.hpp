// Constants of the machine that estimates are made of: measured by the tuner, built in until then.
#pragma once

#include <map>
#include <string>

#include "npconv/tensor.hpp"

namespace npconv {

struct Isa;

struct Machine {
    double fma_f32 = 110e9;      // FLOP/s of one core at the current ISA, two per FMA
    double fma_f64 = 55e9;
    double l1_bytes = 32 << 10;  // capacity
    double l2_bytes = 1 << 20;
    double l3_bytes = 32 << 20;
    double l2_bandwidth = 60e9;     // bytes/s of one core
    double l3_bandwidth = 30e9;     // bytes/s of one core
    double dram_bandwidth = 20e9;   // bytes/s of one core
    double dram_total = 36e9;       // bytes/s of all cores together
    double parallel_overhead = 3e-6;  // seconds to start and join a parallel region
    double call_overhead = 5e-7;
    // With 32 registers: how long a term of a tile waits for its pixels, which lie in a panel, on lines or on pages of their own.
    double near_seconds = 0, line_seconds = 0, page_seconds = 0;
    // A second FMA of 512 bits a cycle (Zen 5) does little for what isn't multiplication, and leaves less time for lines to arrive.
    double move_share = 1;
    bool quick = false;

    double fma(DType t) const { return t == DType::f32 ? fma_f32 : fma_f64; }
    // The same for work that is mostly loads, stores and shuffles.
    double moves(DType t) const { return move_share * fma(t); }
    // Bandwidth at which `bytes` touched repeatedly by `threads` cores flow, by the cache level they fit in.
    double bandwidth(double bytes, int threads) const;
};

Machine builtin_machine(const Isa&);        // what reproducible mode uses
const Machine& current_machine();           // measured if set_machine_constants was called, else built in
std::map<std::string, double> machine_constants();
// Ignores unknown names and values that are not finite and positive; those that no stream beside arithmetic reaches are lowered.
void set_machine_constants(const std::map<std::string, double>&);

}  // namespace npconv
