#include "dispatch/choose.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>

#include "core/check.hpp"
#include "tuner/wisdom.hpp"

namespace npconv {
namespace {

bool start_reproducible() {
    const char* v = std::getenv("NPCONV_REPRODUCIBLE");
    return v && *v && std::strcmp(v, "0") != 0;
}

Rigor start_tuning() {
    const char* v = std::getenv("NPCONV_TUNE");
    if (v && std::strcmp(v, "measure") == 0) return Rigor::measure;
    if (v && std::strcmp(v, "exhaustive") == 0) return Rigor::exhaustive;
    return Rigor::estimate;
}

std::atomic<int>& reproducible_flag() {
    static std::atomic<int> flag{start_reproducible() ? 1 : 0};
    return flag;
}
std::atomic<Rigor>& tuning_flag() {
    static std::atomic<Rigor> flag{start_tuning()};
    return flag;
}

std::mutex tuner_mutex;
Tuner& tuner_hook() {
    static Tuner& hook = *new Tuner;
    return hook;
}

bool fits(const Algorithm& a, const ConvDesc& desc, const Isa& isa, const Params& p, const ChoiceOptions& o) {
    if (o.workspace_limit == 0) return true;
    return a.make_plan(desc, isa, p)->workspace_bytes(desc.mb, o.threads) <= o.workspace_limit;
}

const Algorithm& reference_row() { return *find_algorithm("reference"); }

// One thread if starting the others costs more than they save.
int useful_threads(const Choice& c, const ConvDesc& desc, const Isa& isa, const ChoiceOptions& o) {
    if (o.threads == 1) return 1;
    const Machine& m = current_machine();
    return c.algorithm->estimate(desc, isa, c.params, 1, m) <= c.algorithm->estimate(desc, isa, c.params, o.threads, m)
               ? 1
               : o.threads;
}

Choice lowest_estimate(const ConvDesc& desc, const Isa& isa, const ChoiceOptions& o) {
    Choice best;
    best.seconds = std::numeric_limits<double>::infinity();
    for (const Algorithm* a : algorithms()) {
        if (a == &reference_row() || (o.forced && a != o.forced) || !a->refuse(desc, isa).empty()) continue;
        const Estimate e = best_estimate(*a, desc, isa, o);
        if (e.seconds < best.seconds) {
            best.algorithm = a;
            best.params = e.params;
            best.seconds = e.seconds;
        }
    }
    return best;
}

}  // namespace

void set_reproducible(bool on) { reproducible_flag().store(on, std::memory_order_relaxed); }
bool reproducible() { return reproducible_flag().load(std::memory_order_relaxed) != 0; }
void set_tuning(Rigor mode) { tuning_flag().store(mode, std::memory_order_relaxed); }
Rigor tuning() { return tuning_flag().load(std::memory_order_relaxed); }
void set_tuner(Tuner t) {
    const std::lock_guard<std::mutex> lock(tuner_mutex);
    tuner_hook() = std::move(t);
}

Estimate best_estimate(const Algorithm& a, const ConvDesc& given, const Isa& isa, const ChoiceOptions& o) {
    ConvDesc desc = given;
    int threads = o.threads;
    if (o.reproducible) {
        desc.mb = 1;
        desc.weights = Weights::constant;
        threads = 1;
    }
    const Machine machine = o.reproducible ? builtin_machine(isa) : current_machine();
    // An empty table answers 1 at once.
    const wisdom::Correction correction(desc, isa, threads, machine);
    Estimate best{Params{}, std::numeric_limits<double>::infinity()};
    for (const Params& p : a.candidates(desc, isa, threads, Rigor::measure)) {
        double seconds = a.estimate(desc, isa, p, threads, machine);
        if (!o.reproducible) seconds *= correction.factor(a, p);
        if (seconds < best.seconds && fits(a, given, isa, p, o)) best = {p, seconds};
    }
    return best;
}

Choice choose(const ConvDesc& desc, const Isa& isa, const ChoiceOptions& o) {
    Choice c;
    if (o.forced == &reference_row() || (desc.empty() && !o.forced)) {
        c.algorithm = &reference_row();
        c.source = o.forced ? "forced" : "estimate";
        c.threads = o.threads;
        return c;
    }
    if (o.forced) {
        const std::string reason = o.forced->refuse(desc, isa);
        if (!reason.empty()) fail(o.function, "algorithm='", o.forced->name, "' ", reason, " (", desc.text(), ")");
    }
    const auto usable = [&](const std::optional<WisdomChoice>& w) {
        return w && (!o.forced || w->algorithm == o.forced) && fits(*w->algorithm, desc, isa, w->params, o);
    };
    const auto take = [&](const WisdomChoice& w, const char* source) {
        c.algorithm = w.algorithm;
        c.params = w.params;
        c.seconds = w.seconds;
        c.source = source;
    };
    if (!o.reproducible) {
        wisdom::load_once();
        std::optional<WisdomChoice> known = wisdom::find(desc, isa, o.threads);
        const Rigor wanted = tuning();
        if (wanted != Rigor::estimate && !o.forced && (!known || known->rigor < wanted)) {
            Tuner tuner;
            {
                const std::lock_guard<std::mutex> lock(tuner_mutex);
                tuner = tuner_hook();
            }
            if (tuner) {
                tuner(desc, o.threads, wanted);
                known = wisdom::find(desc, isa, o.threads);
                if (usable(known)) take(*known, "tuner");
            }
        }
        if (!c.algorithm && usable(known)) take(*known, "wisdom");
    }
    if (!c.algorithm) c = lowest_estimate(desc, isa, o);
    if (!c.algorithm) {
        if (o.workspace_limit)
            fail(o.function, "workspace_limit ", o.workspace_limit, " bytes is too small for every algorithm (", desc.text(), ")");
        c.algorithm = &reference_row();
    }
    if (o.forced) c.source = "forced";
    c.threads = useful_threads(c, desc, isa, o);
    return c;
}

std::vector<Explanation> explain(const ConvDesc& desc, const Isa& isa, const ChoiceOptions& o) {
    const Choice choice = choose(desc, isa, o);
    std::optional<WisdomChoice> known;
    if (!o.reproducible) known = wisdom::find(desc, isa, o.threads);
    std::vector<Explanation> rows;
    for (const Algorithm* a : algorithms()) {
        Explanation row{a, a->refuse(desc, isa), {Params{}, 0}, 0, a == choice.algorithm, ""};
        if (row.refusal.empty() && !(desc.empty() && !row.picked)) row.estimate = best_estimate(*a, desc, isa, o);
        if (row.refusal.empty() && desc.empty() && !row.picked) row.refusal = "has nothing to compute";
        if (known && known->algorithm == a) {
            row.measured = known->seconds;
            row.estimate.params = known->params;
        }
        if (row.picked) {
            row.source = choice.source;
            row.estimate.params = choice.params;
        }
        rows.push_back(row);
    }
    return rows;
}

}  // namespace npconv
