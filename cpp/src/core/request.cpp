#include "core/request.hpp"

#include <algorithm>

#include "core/check.hpp"

namespace npconv {
namespace {

// The amounts that 'same' and its relatives stand for. With stride s, 'same' gives ceil(in / s) outputs; an odd total
// puts the extra element at the end (upper: TensorFlow, JAX, torch, ONNX SAME_UPPER) or at the beginning (lower).
void resolve_padding(const ConvRequest::Dim& dim, Axis& a, const std::string& function) {
    const std::int64_t reach = checked_mul(a.dilation, a.kernel - 1, function);
    switch (dim.padding.kind) {
        case PaddingRequest::amounts:
            a.pad_begin = dim.padding.begin;
            a.pad_end = dim.padding.end;
            return;
        case PaddingRequest::full: a.pad_begin = a.pad_end = reach; return;
        case PaddingRequest::causal: a.pad_begin = reach; return;
        case PaddingRequest::same_upper:
        case PaddingRequest::same_lower: {
            const std::int64_t out = (a.in + a.stride - 1) / a.stride;
            const std::int64_t covered = checked_add(checked_mul(std::max<std::int64_t>(out - 1, 0), a.stride, function),
                                                     checked_add(reach, 1, function), function);
            const std::int64_t total = std::max<std::int64_t>(covered - a.in, 0);
            a.pad_begin = dim.padding.kind == PaddingRequest::same_upper ? total / 2 : total - total / 2;
            a.pad_end = total - a.pad_begin;
        }
    }
}

}  // namespace

std::string shape_text(const std::vector<std::int64_t>& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() == 1 ? ",)" : ")");
}

ConvDesc make_desc(const ConvRequest& r) {
    const auto shapes = [&] {
        return " (x " + shape_text(r.x_shape) + ", weight " + shape_text(r.w_shape) + ", groups " + std::to_string(r.groups) + ")";
    };
    if (r.groups < 1) fail(r.function, "groups must be positive, got ", r.groups);
    if (r.ic % r.groups != 0)
        fail(r.function, "the ", r.ic, " channels of x are not divisible by groups ", r.groups, shapes());
    if (r.oc % r.groups != 0)
        fail(r.function, "the ", r.oc, " output channels of weight are not divisible by groups ", r.groups, shapes());
    if (r.icg != r.ic / r.groups)
        fail(r.function, "weight expects ", r.icg, " input channels per group, x provides ", r.ic / r.groups, shapes());
    ConvDesc d;
    d.mb = r.mb;
    d.g = r.groups;
    d.ic = r.ic;
    d.oc = r.oc;
    for (int i = 0; i < r.nd; ++i) {
        const ConvRequest::Dim& from = r.dim[i];
        Axis& a = d.axis[static_cast<std::size_t>(3 - r.nd + i)];
        if (from.stride <= 0) fail(r.function, "stride must be positive, got ", from.stride);
        if (from.dilation <= 0) fail(r.function, "dilation must be positive, got ", from.dilation);
        if (from.kernel <= 0)
            fail(r.function, "weight has a kernel of size ", from.kernel, ", expected at least 1", shapes());
        a.in = from.in;
        a.kernel = from.kernel;
        a.stride = from.stride;
        a.dilation = from.dilation;
        a.mode = from.mode;
        resolve_padding(from, a, r.function);
    }
    d.validate(r.function);
    return d;
}

}  // namespace npconv
