#include <algorithm>
#include <utility>

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

std::vector<Params> most_promising(std::vector<Params> found, decltype(Algorithm::estimate) estimate, const ConvDesc& d,
                                   const Isa& isa, int threads, Rigor rigor) {
    std::vector<Params> distinct;
    for (const Params& p : found)
        if (std::find(distinct.begin(), distinct.end(), p) == distinct.end()) distinct.push_back(p);
    const std::size_t most = rigor == Rigor::exhaustive ? 60 : 12;
    if (distinct.size() <= most) return distinct;
    const Machine machine = builtin_machine(isa);
    ConvDesc bare = d;  // as wisdom knows it
    bare.epilogue = {};
    std::vector<std::pair<double, std::size_t>> order;
    for (std::size_t i = 0; i < distinct.size(); ++i) order.emplace_back(estimate(bare, isa, distinct[i], threads, machine), i);
    std::sort(order.begin(), order.end());
    found.clear();
    for (std::size_t i = 0; i < most; ++i) found.push_back(distinct[order[i].second]);
    return found;
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
