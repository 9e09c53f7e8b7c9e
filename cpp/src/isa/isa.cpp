#include "isa/isa.hpp"

#include <cstdlib>
#include <stdexcept>

#include "isa/cpuid.hpp"

namespace npconv {

#define NPCONV_ISA(isa) namespace isa { extern const Isa description; }
#include "isa/list.inc"

const std::vector<Isa>& all_isas() {
    static const std::vector<Isa> rows = [] {
        std::vector<Isa> r = {
#define NPCONV_ISA(isa) isa::description,
#include "isa/list.inc"
        };
        for (std::size_t i = 0; i < r.size(); ++i) r[i].level = static_cast<int>(i);
        return r;
    }();
    return rows;
}

std::vector<const Isa*> available_isas() {
    std::vector<const Isa*> found;
    for (const Isa& isa : all_isas())
        if (isa.detect()) found.push_back(&isa);
    return found;
}

const Isa& current_isa() {
    static const Isa& chosen = []() -> const Isa& {
        const std::vector<const Isa*> have = available_isas();
        const char* wanted = std::getenv("NPCONV_ISA");
        if (!wanted || !*wanted) return *have.back();
        std::string names;
        for (const Isa* isa : have) {
            if (std::string(isa->name) == wanted) return *isa;
            names += names.empty() ? isa->name : std::string(", ") + isa->name;
        }
        throw std::invalid_argument(std::string("NPCONV_ISA: this CPU and build have ") + names + ", got '" + wanted + "'");
    }();
    return chosen;
}

}  // namespace npconv
