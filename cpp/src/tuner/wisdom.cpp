#include "tuner/wisdom.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <stdexcept>
#include <tuple>
#include <unordered_map>

#include "core/fork.hpp"

namespace npconv::wisdom {
namespace {

using Key = std::tuple<std::string, std::string, int>;  // descriptor, ISA, threads

struct Table {
    std::mutex mutex;
    std::map<Key, WisdomEntry> entries;
    std::unordered_multimap<std::string, Key> families;  // problems that differ in nothing but sizes and threads
    std::function<void()> loader;
    bool loaded = false;
};

Table& table() {
    static Table& t = [&]() -> Table& {
        Table* const made = new Table;
        hold_over_fork(made->mutex);
        return *made;
    }();
    return t;
}

std::atomic<std::uint64_t> changes{0};

const Isa* find_isa(const std::string& name) {
    for (const Isa& isa : all_isas())
        if (name == isa.name) return &isa;
    return nullptr;
}

// The problem with everything removed that may differ between neighbours.
std::string family(ConvDesc d, const std::string& isa) {
    const std::int64_t icg = d.icg(), ocg = d.ocg();
    d.mb = 1;
    // Depthwise problems are neighbours of each other whatever their channel count, and of nothing else.
    const bool depthwise = d.g > 1 && icg == 1;
    d.g = d.g > 1 ? 2 : 1;
    d.ic = depthwise ? 2 : d.g * 4;
    d.oc = depthwise ? 2 * ocg : d.g * 4;
    for (Axis& a : d.axis) {
        a.in = std::max<std::int64_t>(a.in, 1) > 1 ? 2 : 1;
        a.out = 1;
    }
    return isa + " " + d.key();
}

double log_distance(const ConvDesc& a, const ConvDesc& b, int threads_a, int threads_b) {
    const auto d = [](double x, double y) { return std::fabs(std::log2(std::max(x, 1.0) / std::max(y, 1.0))); };
    double sum = d(double(a.mb), double(b.mb)) + d(double(a.icg()), double(b.icg())) +
                 d(double(a.ocg()), double(b.ocg())) + d(double(a.g), double(b.g)) + d(threads_a, threads_b);
    for (std::size_t i = 0; i < 3; ++i) sum += d(double(a.axis[i].in), double(b.axis[i].in));
    return sum;
}

std::optional<Params> find_params(const Algorithm& a, const ConvDesc& d, const Isa& isa, int threads,
                                  const std::string& text) {
    for (const Params& p : a.candidates(d, isa, threads, Rigor::exhaustive))
        if (params_text(a, p) == text) return p;
    for (const Params& p : a.candidates(d, isa, threads, Rigor::measure))
        if (params_text(a, p) == text) return p;
    return std::nullopt;
}

std::optional<WisdomChoice> check(const WisdomEntry& e, const ConvDesc& d) {
    const Isa* isa = find_isa(e.isa);
    const Algorithm* a = find_algorithm(e.algorithm);
    if (e.algorithm == "reference") return std::nullopt;  // right, but never what anybody waits for
    if (!isa || !a || a->revision != e.revision || e.threads < 1 || e.threads > 4096) return std::nullopt;
    if (!std::isfinite(e.seconds) || e.seconds <= 0 || !std::isfinite(e.time)) return std::nullopt;
    if (d.empty() || !a->refuse(d, *isa).empty()) return std::nullopt;
    const std::optional<Params> p = find_params(*a, d, *isa, e.threads, e.parameters);
    if (!p) return std::nullopt;
    return WisdomChoice{a, *p, e.seconds, e.rigor};
}

std::optional<WisdomChoice> check(const WisdomEntry& e) {
    try {
        const ConvDesc d = ConvDesc::parse(e.descriptor);
        return d.key() == e.descriptor ? check(e, d) : std::nullopt;
    } catch (const std::exception&) {
        return std::nullopt;
    }
}

void erase_family(Table& t, const Key& key) {
    const std::string f = family(ConvDesc::parse(std::get<0>(key)), std::get<1>(key));
    const auto range = t.families.equal_range(f);
    for (auto it = range.first; it != range.second; ++it)
        if (it->second == key) {
            t.families.erase(it);
            return;
        }
}

}  // namespace

bool valid(const WisdomEntry& e) { return check(e).has_value(); }

Update update(const std::vector<WisdomEntry>& given) {
    Update result;
    Table& t = table();
    for (const WisdomEntry& e : given) {
        if (!valid(e)) {
            ++result.rejected;
            continue;
        }
        ++result.accepted;
        const Key key{e.descriptor, e.isa, e.threads};
        const std::lock_guard<std::mutex> lock(t.mutex);
        const auto found = t.entries.find(key);
        if (found == t.entries.end()) {
            t.families.emplace(family(ConvDesc::parse(e.descriptor), e.isa), key);
            t.entries.emplace(key, e);
        } else if (std::make_pair(e.rigor, e.time) >= std::make_pair(found->second.rigor, found->second.time) ||
                   !valid(found->second)) {
            found->second = e;
        }
    }
    if (result.accepted) ++changes;
    return result;
}

std::vector<WisdomEntry> entries() {
    Table& t = table();
    const std::lock_guard<std::mutex> lock(t.mutex);
    std::vector<WisdomEntry> all;
    for (const auto& [key, e] : t.entries) all.push_back(e);
    return all;
}

void clear() {
    Table& t = table();
    const std::lock_guard<std::mutex> lock(t.mutex);
    t.entries.clear();
    t.families.clear();
    ++changes;
}

int forget(const std::string& key) {
    Table& t = table();
    const std::lock_guard<std::mutex> lock(t.mutex);
    int removed = 0;
    for (auto it = t.entries.begin(); it != t.entries.end();) {
        if (std::get<0>(it->first) == key) {
            erase_family(t, it->first);
            it = t.entries.erase(it);
            ++removed;
        } else {
            ++it;
        }
    }
    if (removed) ++changes;
    return removed;
}

std::optional<WisdomChoice> find(const ConvDesc& desc, const Isa& isa, int threads) {
    WisdomEntry entry;
    {
        Table& t = table();
        const std::lock_guard<std::mutex> lock(t.mutex);
        if (t.entries.empty()) return std::nullopt;
        const auto found = t.entries.find(Key{desc.key(), isa.name, threads});
        if (found == t.entries.end()) return std::nullopt;
        entry = found->second;
    }
    return check(entry, desc);
}

Correction::Correction(const ConvDesc& desc, const Isa& isa, int threads, const Machine& machine)
    : isa_(isa), machine_(machine) {
    std::vector<WisdomEntry> neighbours;
    {
        Table& t = table();
        const std::lock_guard<std::mutex> lock(t.mutex);
        if (t.entries.empty()) return;
        const auto range = t.families.equal_range(family(desc, isa.name));
        for (auto it = range.first; it != range.second; ++it) {
            const auto e = t.entries.find(it->second);
            if (e != t.entries.end()) neighbours.push_back(e->second);
        }
    }
    double nearest = std::numeric_limits<double>::infinity();
    const WisdomEntry* best = nullptr;
    for (const WisdomEntry& e : neighbours) {
        const double d = log_distance(desc, ConvDesc::parse(e.descriptor), threads, e.threads);
        if (d < nearest) {
            nearest = d;
            best = &e;
        }
    }
    // Five doublings away nothing is left to learn.
    if (!best || nearest > 5) return;
    near_ = ConvDesc::parse(best->descriptor);
    winner_ = check(*best, *near_);
    threads_ = best->threads;
    weight_ = 1 - nearest / 5;
}

double Correction::factor(const Algorithm& algorithm, const Params& params) const {
    if (!winner_ || !algorithm.refuse(*near_, isa_).empty()) return 1;
    // Clamped: an estimate is never that far off, a hostile file may be.
    const double ratio =
        std::clamp(winner_->seconds / algorithm.estimate(*near_, isa_, params, threads_, machine_), 0.125, 8.0);
    // The winner took exactly that long; everybody else took longer, so for them the ratio is a lower bound.
    const bool won = &algorithm == winner_->algorithm && params == winner_->params;
    return std::pow(won ? ratio : std::max(1.0, 1.02 * ratio), weight_);
}

std::uint64_t generation() { return changes.load(std::memory_order_acquire); }

void set_loader(std::function<void()> loader) {
    Table& t = table();
    const std::lock_guard<std::mutex> lock(t.mutex);
    t.loader = std::move(loader);
}

void load_once() {
    Table& t = table();
    std::function<void()> loader;
    {
        const std::lock_guard<std::mutex> lock(t.mutex);
        if (t.loaded || !t.loader) return;
        t.loaded = true;
        loader = t.loader;
    }
    loader();  // outside the lock: it calls update()
}

}  // namespace npconv::wisdom
