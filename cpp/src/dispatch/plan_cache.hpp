// Plans of the problems met so far: sharded, least recently used goes first, bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "dispatch/choose.hpp"
#include "npconv/plan.hpp"

namespace npconv {

struct PlannedCall {
    std::shared_ptr<const Plan> plan;
    int threads = 1;             // what the plan was chosen for, lowered where one thread is faster
    const char* source = "";
};

// From the cache, or chosen and made now. The descriptor is as ConvDesc::validate left it.
PlannedCall get_plan(const ConvDesc&, const ChoiceOptions&);
PlannedCall make_plan(const ConvDesc&, const ChoiceOptions&);  // past the cache

void clear_plan_cache();
struct PlanCacheInfo {
    std::uint64_t hits = 0, misses = 0, size = 0, capacity = 0;
};
PlanCacheInfo plan_cache_info();

}  // namespace npconv
