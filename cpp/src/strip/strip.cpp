#include "strip/strip.hpp"

#include "core/index_map.hpp"

namespace npconv {

const StripKernels& strip_kernels(const Isa& isa) {
    static const StripKernels* const table[] = {
#define NPCONV_ISA(n) &n::strip_kernels,
#include "isa/list.inc"
    };
    return *table[isa.level];
}

std::vector<std::int64_t> row_offsets(const ConvDesc& desc, const Tensor& src, std::int64_t d0, std::int64_t nd,
                                      std::int64_t h0, std::int64_t nh) {
    std::vector<std::int64_t> offsets;
    offsets.reserve(static_cast<std::size_t>(nd * nh));
    for (std::int64_t d = d0; d < d0 + nd; ++d) {
        const std::int64_t sd = map_index(desc.d().mode, d, desc.d().in);
        for (std::int64_t h = h0; h < h0 + nh; ++h) {
            const std::int64_t sh = map_index(desc.h().mode, h, desc.h().in);
            offsets.push_back(sd < 0 || sh < 0 ? constant_row : sd * src.stride[2] + sh * src.stride[3]);
        }
    }
    return offsets;
}

}  // namespace npconv
