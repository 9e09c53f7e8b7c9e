#include "npconv/conv_desc.hpp"

#include <algorithm>
#include <stdexcept>

#include "core/check.hpp"

namespace npconv {

bool operator==(const Axis& a, const Axis& b) {
    return a.in == b.in && a.out == b.out && a.kernel == b.kernel && a.stride == b.stride && a.dilation == b.dilation &&
           a.pad_begin == b.pad_begin && a.pad_end == b.pad_end && a.mode == b.mode;
}

bool operator==(const ConvDesc& a, const ConvDesc& b) {
    return a.direction == b.direction && a.src == b.src && a.wei == b.wei && a.dst == b.dst && a.acc == b.acc &&
           a.mb == b.mb && a.g == b.g && a.ic == b.ic && a.oc == b.oc && a.axis == b.axis &&
           a.src_order == b.src_order && a.dst_order == b.dst_order && a.accuracy == b.accuracy &&
           a.weights == b.weights && a.epilogue == b.epilogue;
}

std::size_t ConvDesc::hash() const {
    std::uint64_t h = 0xcbf29ce484222325u;
    const auto mix = [&h](std::uint64_t v) {
        h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
        h *= 0xff51afd7ed558ccdu;
    };
    const auto pack = [](auto... small) {
        std::uint64_t v = 0;
        ((v = v << 8 | static_cast<std::uint64_t>(small)), ...);
        return v;
    };
    mix(pack(direction, src, wei, dst, acc, src_order, dst_order, accuracy));
    mix(pack(weights, epilogue.scale, epilogue.bias, epilogue.residual, epilogue.activation));
    for (std::int64_t v : {mb, g, ic, oc}) mix(static_cast<std::uint64_t>(v));
    for (const Axis& a : axis) {
        for (std::int64_t v : {a.in, a.kernel, a.stride, a.dilation, a.pad_begin, a.pad_end})
            mix(static_cast<std::uint64_t>(v));
        mix(pack(a.mode));
    }
    return static_cast<std::size_t>(h ^ (h >> 29));
}

bool ConvDesc::pads() const {
    for (const Axis& a : axis)
        if (a.pad_begin != 0 || a.pad_end != 0) return true;
    return false;
}

bool ConvDesc::unit_stride() const {
    for (const Axis& a : axis)
        if (a.stride != 1) return false;
    return true;
}

bool ConvDesc::unit_dilation() const {
    for (const Axis& a : axis)
        if (a.dilation != 1) return false;
    return true;
}

bool ConvDesc::empty() const { return mb == 0 || oc == 0 || ic == 0 || out_pixels() == 0 || in_pixels() == 0; }

double ConvDesc::macs() const {
    double n = static_cast<double>(mb) * static_cast<double>(oc) * static_cast<double>(icg());
    for (const Axis& a : axis) n *= static_cast<double>(a.out) * static_cast<double>(a.kernel);
    return n;
}

namespace {

constexpr const char* axis_names[] = {"depth", "height", "width"};

void check_axis(Axis& a, const std::string& where, const std::string& function) {
    if (a.stride <= 0) fail(function, "stride must be positive, got ", a.stride, where);
    if (a.dilation <= 0) fail(function, "dilation must be positive, got ", a.dilation, where);
    if (a.kernel <= 0) fail(function, "weight has a kernel of size ", a.kernel, where, ", expected at least 1");
    if (a.in < 0) fail(function, "x has a negative size ", a.in, where);
    const std::int64_t extent = checked_add(checked_mul(a.dilation, a.kernel - 1, function), 1, function);
    const std::int64_t padded = checked_add(checked_add(a.in, a.pad_begin, function), a.pad_end, function);
    // Source indices are kept in 32 bits; an axis of more than two thousand million elements is refused here.
    if (padded > 0x7fffffff || extent > 0x7fffffff || a.pad_begin > 0x7fffffff || a.pad_end > 0x7fffffff ||
        a.pad_begin < -0x7fffffff || a.pad_end < -0x7fffffff)
        fail(function, "x and its padding span ", padded, " elements", where, ", the limit is ", 0x7fffffff);
    if (padded < extent)
        fail(function, "kernel can't be larger than the padded input: kernel ", a.kernel, " with dilation ", a.dilation,
             " covers ", extent, ", the input of ", a.in, " with padding (", a.pad_begin, ", ", a.pad_end, ") has ",
             padded, where);
    a.out = (padded - extent) / a.stride + 1;
    // Equal problems, equal descriptors; and no kernel ever sees a step that leads outside.
    if (a.out == 1) a.stride = std::min(a.stride, padded - extent + 1);
    if (a.kernel == 1) a.dilation = 1;
    if (a.pad_begin <= 0 && a.pad_end <= 0) a.mode = PadMode::constant;
    if (a.mode == PadMode::constant) return;
    const std::int64_t most = a.mode == PadMode::reflect ? a.in - 1 : a.mode == PadMode::replicate ? 0x7fffffff : a.in;
    if (a.in == 0) fail(function, "padding_mode '", name(a.mode), "' needs a non-empty input", where);
    if (a.pad_begin > most || a.pad_end > most)
        fail(function, "padding (", a.pad_begin, ", ", a.pad_end, ") is too large for padding_mode '", name(a.mode),
             "' and an input of ", a.in, where, ", expected at most ", most);
}

}  // namespace

void ConvDesc::validate(const std::string& function) {
    if (mb < 0 || ic < 0 || oc < 0) fail(function, "sizes must not be negative, got batch ", mb, ", channels ", ic, " and ", oc);
    if (g < 1) fail(function, "groups must be positive, got ", g);
    if (ic % g != 0) fail(function, "the ", ic, " input channels of x are not divisible by groups ", g);
    if (oc % g != 0) fail(function, "the ", oc, " output channels of weight are not divisible by groups ", g);
    const int first = axis[0] == Axis{} ? 1 : 0;
    for (int i = first; i < 3; ++i)
        check_axis(axis[static_cast<std::size_t>(i)], std::string(" (") + axis_names[i] + ")", function);
    // Everything below multiplies freely: bytes of input, output and weights fit into 63 bits.
    const auto bytes = [&](std::int64_t n, std::int64_t c, std::int64_t Axis::*size, const char* what) {
        std::int64_t total = checked_mul(checked_mul(n, c, function), 8, function);
        for (const Axis& a : axis)
            if (__builtin_mul_overflow(total, a.*size, &total) || total > (std::int64_t(1) << 56))
                fail(function, what, " would have more elements than an address space holds");
    };
    bytes(mb, ic, &Axis::in, "x");
    bytes(mb, oc, &Axis::out, "the output");
    bytes(oc, icg(), &Axis::kernel, "weight");
}

}  // namespace npconv
