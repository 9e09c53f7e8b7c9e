#include "algorithms/fft/layout.hpp"

#include <algorithm>
#include <cmath>

#include "core/index_map.hpp"

namespace npconv::fft {
namespace {

struct Radix {
    int radix;
    double cost[2];  // of one butterfly with its twiddles; with 16 registers, where large ones spill, and with 32
};
constexpr Radix table[] = {{8, {90, 58}}, {6, {60, 44}}, {5, {44, 40}}, {4, {22, 20}}, {3, {14, 14}}, {2, {8, 8}}};

// The cheapest factorisation into radices of at least `least`, in ascending order; 1e300 if there is none.
double search(int size, int wide, int least, std::vector<int>& best) {
    best.clear();
    if (size == 1) return 0;
    double cost = 1e300;
    for (const Radix& r : table) {
        if (r.radix < least || size % r.radix) continue;
        std::vector<int> tail;
        const double total = size / r.radix * r.cost[wide] + r.radix * search(size / r.radix, wide, r.radix, tail);
        if (total >= cost) continue;
        cost = total;
        best = {r.radix};
        best.insert(best.end(), tail.begin(), tail.end());
    }
    return cost;
}

double factorise(int size, bool columns, const Isa& isa, std::vector<int>& best) {
    const int wide = isa.registers >= 32;
    if (!columns || size == 1) return search(size, wide, 2, best);
    double cost = 1e300;
    for (const Radix& r : table) {
        if ((r.radix != 4 && r.radix != 8) || size % r.radix) continue;
        std::vector<int> head;
        const double total = size / r.radix * r.cost[wide] + r.radix * search(size / r.radix, wide, 2, head);
        if (total >= cost) continue;
        cost = total;
        best = head;
        best.push_back(r.radix);
    }
    return cost;
}

// cos and sin of 2 pi a / n from the first octant, so that symmetric twiddles are exactly symmetric.
struct Angle {
    double c, s;
    Angle(std::int64_t a, std::int64_t n) {
        const double pi = 3.14159265358979323846;
        a %= n;
        const std::int64_t quadrant = 4 * a / n, r = 4 * a - quadrant * n;  // r / n of a quarter turn
        const bool upper = 2 * r > n;
        const double t = pi / 2 * static_cast<double>(upper ? n - r : r) / static_cast<double>(n);
        double x = std::cos(t), y = std::sin(t);
        if (upper) std::swap(x, y);
        c = quadrant == 0 ? x : quadrant == 1 ? -y : quadrant == 2 ? -x : y;
        s = quadrant == 0 ? y : quadrant == 1 ? x : quadrant == 2 ? -y : -x;
    }
};

}  // namespace

std::vector<int> radices(int size, bool columns, const Isa& isa) {
    std::vector<int> r;
    factorise(size, columns, isa, r);
    return r;
}

double transform_cost(int size, bool columns, const Isa& isa) {
    std::vector<int> r;
    return factorise(size, columns, isa, r);
}

template <class T> Transform<T>::Transform(int size, bool columns, const Isa& isa) : order_{0} {
    passes_.size = size;
    int block = size;
    for (const int radix : radices(size, columns, isa)) {
        const int p = passes_.passes++, q = block / radix;
        passes_.radix[p] = radix;
        for (int j = 1; j < q; ++j)
            for (int i = 1; i < radix; ++i) {
                const Angle a(std::int64_t(i) * j, block);
                tables_[p].push_back(static_cast<T>(a.c));
                tables_[p].push_back(static_cast<T>(a.s));
            }
        passes_.twiddles[p] = tables_[p].data();
        block = q;
    }
    // Frequency k leaves pass 0 in block k % radix, where it is frequency k / radix.
    order_.resize(static_cast<std::size_t>(size));
    for (int k = 0; k < size; ++k) {
        int at = 0, rest = k;
        block = size;
        for (int p = 0; p < passes_.passes; ++p) {
            block /= passes_.radix[p];
            at += rest % passes_.radix[p] * block;
            rest /= passes_.radix[p];
        }
        order_[static_cast<std::size_t>(k)] = at;
    }
}

template <class T> RowTransform<T>::RowTransform(int width, const Isa& isa) : half_(width / 2, false, isa) {
    for (int k = 1; k <= width / 4; ++k) {
        const Angle a(k, width);
        twiddles_.push_back(static_cast<T>(a.c));
        twiddles_.push_back(static_cast<T>(a.s));
    }
    rows_.half = half_.passes();
    rows_.twiddles = twiddles_.data();
    rows_.order = half_.order().data();
}

Tiling tiling(const Axis& a, int size) {
    Tiling t;
    t.size = size;
    t.step = size - a.kernel + 1;
    if (size >= a.kernel) {
        const bool shared_padding = a.mode == PadMode::constant && a.pad_begin >= 0 && size >= a.in + a.pad_begin &&
                                    size >= a.out + a.kernel - 1 - a.pad_begin && size >= a.out;
        const bool circular = a.mode == PadMode::circular && size == a.in;
        if (shared_padding || circular) t.step = size;
    }
    t.step = std::min(t.step, a.out);
    if (t.step >= 1) t.tiles = (a.out + t.step - 1) / t.step;
    return t;
}

TileMap::TileMap(const Axis& axis, const Tiling& tiling)
    : axis_(axis), tiling_(tiling), needed_(axis.out + axis.kernel - 1), head_(0), tail_(tiling.tiles) {
    const std::int64_t size = tiling.size, end = std::min(axis.in, needed_ - axis.pad_begin);
    while (head_ < tail_ && first(head_) < 0) ++head_;
    while (tail_ > head_ && first(tail_ - 1) + size > end) --tail_;
    const std::int64_t border = head_ + tiling.tiles - tail_;
    tables_.reserve(static_cast<std::size_t>((border + 1) * size));
    for (std::int64_t i = 0; i < border; ++i)
        for (int j = 0; j < size; ++j) tables_.push_back(index(i < head_ ? i : i - head_ + tail_, j));
    for (std::int32_t j = 0; j < size; ++j) tables_.push_back(j);
}

std::int32_t TileMap::index(std::int64_t tile, int position) const {
    if (tile * tiling_.step + position >= needed_) return constant_index;
    return static_cast<std::int32_t>(map_index(axis_.mode, first(tile) + position, axis_.in));
}

TileMap::View TileMap::view(std::int64_t tile) const {
    const std::int64_t size = tiling_.size, row = interior(tile) ? head_ + tiling_.tiles - tail_
                                                  : tile < head_  ? tile
                                                                  : tile - tail_ + head_;
    View v{tables_.data() + row * size, 0, 0, size};
    if (interior(tile)) {
        v.offset = first(tile);
    } else {
        v.lo = std::clamp<std::int64_t>(-first(tile), 0, size);
        v.hi = std::clamp(std::min(axis_.in, needed_ - axis_.pad_begin) - first(tile), v.lo, size);
    }
    return v;
}

const std::vector<int>& sizes(bool long_rows) {
    static const std::vector<int> two = {8,  12, 16, 20,  24,  32,  36,  40,  48,  60,  64,  72,
                                         80, 96, 120, 128, 144, 160, 192, 240, 256, 320, 384, 512};
    static const std::vector<int> one = {8,   12,  16,  24,  32,  48,  64,   96,   128,  192, 256,
                                         384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192};
    return long_rows ? one : two;
}

template class Transform<float>;
template class Transform<double>;
template class RowTransform<float>;
template class RowTransform<double>;

}  // namespace npconv::fft
