#include "core/index_map.hpp"

#include <algorithm>

namespace npconv {

std::int64_t map_index(PadMode mode, std::int64_t i, std::int64_t n) {
    if (i >= 0 && i < n) return i;
    switch (mode) {
        case PadMode::constant: return constant_index;
        case PadMode::replicate: return i < 0 ? 0 : n - 1;
        case PadMode::circular: return (i % n + n) % n;
        case PadMode::reflect: {  // period 2n - 2: d c b | a b c d | c b a
            if (n == 1) return 0;
            const std::int64_t period = 2 * n - 2, k = (i % period + period) % period;
            return k < n ? k : period - k;
        }
        case PadMode::symmetric: {  // period 2n: c b a | a b c d | d c b
            const std::int64_t period = 2 * n, k = (i % period + period) % period;
            return k < n ? k : period - 1 - k;
        }
    }
    return constant_index;
}

AxisMap axis_map(const Axis& axis, std::int64_t begin, std::int64_t count) {
    AxisMap m;
    m.index.resize(static_cast<std::size_t>(count));
    for (std::int64_t j = 0; j < count; ++j)
        m.index[static_cast<std::size_t>(j)] = static_cast<std::int32_t>(map_index(axis.mode, begin + j, axis.in));
    m.interior_lo = static_cast<int>(std::clamp<std::int64_t>(-begin, 0, count));
    m.interior_hi = static_cast<int>(std::clamp<std::int64_t>(axis.in - begin, m.interior_lo, count));
    return m;
}

}  // namespace npconv
