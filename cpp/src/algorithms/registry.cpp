#include "algorithms/algorithm.hpp"

namespace npconv {

#define NPCONV_ALGORITHM(name) extern const Algorithm name##_algorithm;
#include "algorithms/list.inc"

const std::vector<const Algorithm*>& algorithms() {
    static const std::vector<const Algorithm*> rows = {
#define NPCONV_ALGORITHM(name) &name##_algorithm,
#include "algorithms/list.inc"
    };
    return rows;
}

const Algorithm* find_algorithm(const std::string& name) {
    for (const Algorithm* a : algorithms())
        if (name == a->name) return a;
    return nullptr;
}

std::string params_text(const Algorithm& a, const Params& p) {
    std::string text;
    for (int i = 0; i < 6 && a.param_names[i]; ++i) {
        if (i) text += ',';
        text += a.param_names[i];
        text += '=';
        text += std::to_string(p.v[i]);
    }
    return text;
}

}  // namespace npconv
