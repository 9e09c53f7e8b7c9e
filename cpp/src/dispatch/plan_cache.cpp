#include "dispatch/plan_cache.hpp"

#include <list>
#include <mutex>
#include <unordered_map>

#include "core/fork.hpp"
#include "tuner/wisdom.hpp"

namespace npconv {
namespace {

struct Key {
    ConvDesc desc;
    int threads;
    const Algorithm* forced;
    std::size_t workspace_limit;
    bool reproducible;
    Rigor tuning;

    friend bool operator==(const Key& a, const Key& b) {
        return a.threads == b.threads && a.forced == b.forced && a.workspace_limit == b.workspace_limit &&
               a.reproducible == b.reproducible && a.tuning == b.tuning && a.desc == b.desc;
    }
};

struct KeyHash {
    std::size_t operator()(const Key& k) const {
        return k.desc.hash() ^ (static_cast<std::size_t>(k.threads) * 0x9e3779b97f4a7c15u) ^
               reinterpret_cast<std::size_t>(k.forced);
    }
};

struct Entry {
    Key key;
    PlannedCall call;
    std::uint64_t generation;
};

constexpr std::size_t shard_count = 8, shard_capacity = 128;

struct Shard {
    std::mutex mutex;
    std::list<Entry> entries;  // most recently used first
    std::unordered_map<Key, std::list<Entry>::iterator, KeyHash> index;
    std::uint64_t hits = 0, misses = 0;
};

Shard* shards() {
    // Outlives every thread that may still call.
    static Shard* const s = [] {
        Shard* const made = new Shard[shard_count];
        for (std::size_t i = 0; i < shard_count; ++i) hold_over_fork(made[i].mutex);
        return made;
    }();
    return s;
}

}  // namespace

PlannedCall make_plan(const ConvDesc& desc, const ChoiceOptions& o) {
    const Isa& isa = current_isa();
    const Choice c = choose(desc, isa, o);
    return {c.algorithm->make_plan(desc, isa, c.params), c.threads, c.source};
}

PlannedCall get_plan(const ConvDesc& desc, const ChoiceOptions& o) {
    const Key key{desc, o.threads, o.forced, o.workspace_limit, o.reproducible, tuning()};
    Shard& shard = shards()[KeyHash()(key) % shard_count];
    {
        const std::lock_guard<std::mutex> lock(shard.mutex);
        const auto found = shard.index.find(key);
        if (found != shard.index.end() && found->second->generation == wisdom::generation()) {
            shard.entries.splice(shard.entries.begin(), shard.entries, found->second);
            ++shard.hits;
            return found->second->call;
        }
        ++shard.misses;
    }
    const PlannedCall call = make_plan(desc, o);  // outside the lock: it may measure
    const std::uint64_t generation = wisdom::generation();
    const std::lock_guard<std::mutex> lock(shard.mutex);
    const auto found = shard.index.find(key);
    if (found != shard.index.end()) {
        shard.entries.erase(found->second);
        shard.index.erase(found);
    }
    shard.entries.push_front({key, call, generation});
    shard.index.emplace(key, shard.entries.begin());
    if (shard.entries.size() > shard_capacity) {
        shard.index.erase(shard.entries.back().key);
        shard.entries.pop_back();
    }
    return call;
}

void clear_plan_cache() {
    for (std::size_t i = 0; i < shard_count; ++i) {
        Shard& s = shards()[i];
        const std::lock_guard<std::mutex> lock(s.mutex);
        s.index.clear();
        s.entries.clear();
        s.hits = s.misses = 0;
    }
}

PlanCacheInfo plan_cache_info() {
    PlanCacheInfo info;
    info.capacity = shard_count * shard_capacity;
    for (std::size_t i = 0; i < shard_count; ++i) {
        Shard& s = shards()[i];
        const std::lock_guard<std::mutex> lock(s.mutex);
        info.hits += s.hits;
        info.misses += s.misses;
        info.size += s.entries.size();
    }
    return info;
}

}  // namespace npconv
