// The levels of this build, which of them this CPU has, and which one calls use.
#pragma once

#include <string>
#include <vector>

namespace npconv {

struct Isa {
    const char* name;
    int level;        // row in list.inc: the index into every kernel table
    int vector_bytes;
    int registers;    // vector registers
    bool (*detect)();
};

const std::vector<Isa>& all_isas();         // built into this binary
std::vector<const Isa*> available_isas();   // and present on this CPU, operating system support included
// The highest available level, lowered by NPCONV_ISA. Throws std::invalid_argument if NPCONV_ISA asks for an unknown
// level or for more than the CPU has.
const Isa& current_isa();

// Full identification for the wisdom file's fingerprint.
struct CpuInfo {
    std::string vendor, brand;
    int family = 0, model = 0, stepping = 0;
    std::vector<std::string> features;
    long l1 = 32 << 10, l2 = 1 << 20, l3 = 16 << 20;  // bytes: L1d and L2 of one core, L3 shared
};
const CpuInfo& cpu_info();

}  // namespace npconv
