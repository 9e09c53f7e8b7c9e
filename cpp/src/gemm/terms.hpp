// The lists of terms that dense kernels walk along: one for a strip or a panel; for the image itself one for each kind of
// row (which kernel rows lie in the image) and, where the padding is to the left or right, for the tiles at a row's ends.
#pragma once

#include <cstdint>
#include <vector>

#include "gemm/geometry.hpp"
#include "gemm/kernel.hpp"

namespace npconv {

class DenseTermLists {
public:
    // `channel`: from one channel of X to the next; `tap`: where each tap of the first channel lies. `row_tile`: pixels of
    // the largest tile, which says which tiles of a row touch its ends: kernels cut only rows that have three of them into narrower ones.
    DenseTermLists(const ConvDesc&, DenseSource, std::int64_t channel, const std::vector<std::ptrdiff_t>& tap,
                   std::int64_t row_tile);
    DenseTermLists(const DenseTermLists&) = delete;
    DenseTermLists& operator=(const DenseTermLists&) = delete;

    // For the output rows from h0 on of depth slice d.
    DenseSums sums(std::int64_t d, std::int64_t h0) const;

private:
    struct Range {
        std::int64_t begin, end;  // kernel positions that lie in the image
        friend bool operator==(const Range& a, const Range& b) { return a.begin == b.begin && a.end == b.end; }
    };
    static Range inside(const Axis&, std::int64_t out);
    void kinds(const Axis&, std::vector<Range>& ranges, std::vector<std::uint8_t>& kind) const;
    DenseTerms list(const ConvDesc&, const Range& kd, const Range& kh, int edge, std::int64_t channels, std::int64_t channel,
                    const std::vector<std::ptrdiff_t>& tap);

    int edges_ = 1;
    std::vector<std::vector<DenseTerm>> memory_;
    std::vector<DenseSum> sums_;
    std::vector<std::uint8_t> depth_kind_, row_kind_;  // empty: one kind
    std::int64_t row_kinds_ = 1;
};

}  // namespace npconv
