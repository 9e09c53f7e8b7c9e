#include "problem.hpp"

#include "core/check.hpp"
#include "core/request.hpp"

namespace npconv::bindings {
namespace {

std::string text(py::handle h) { return py::str(h); }

std::string function_name(int nd) { return "conv" + std::to_string(nd) + "d"; }

// A vector with one value for each output channel.
py::array channel_vector(py::handle h, const char* argument, const Problem& p) {
    const py::array a = as_array(h, p.function, argument);
    if (a.ndim() != 1 || a.shape(0) != p.desc.oc)
        fail(p.function, argument, " must be 1-dimensional with ", p.desc.oc, " elements (the output channels), got shape ",
             shape_text(shape_of(a)));
    const py::array u = usable(a, p.dtype, p.function, argument);
    return py::array::ensure(u, py::array::c_style);
}

void check_rank(const Problem& p, const Shape& x, const Shape& w) {
    const std::size_t spatial = static_cast<std::size_t>(p.nd);
    const auto shapes = [&] { return " (x " + shape_text(x) + ", weight " + shape_text(w) + ")"; };
    if (x.size() == 2 && w.size() == 2)
        fail(p.function, "x and weight have 2 dimensions, expected ", spatial + 1, " (unbatched) or ", spatial + 2, " and ", spatial + 2,
             shapes(), "; to correlate two plain 2-D arrays use nc.correlate");
    if (x.size() != spatial + 2 && x.size() != spatial + 1)
        fail(p.function, "x must have ", spatial + 1, " (unbatched) or ", spatial + 2, " dimensions, got ", x.size(), shapes());
    if (w.size() != spatial + 2) fail(p.function, "weight must have ", spatial + 2, " dimensions, got ", w.size(), shapes());
}

ConvRequest make_request(const Problem& p, const Shape& x, const Shape& w, const AxisOrder& weight_order, const Arguments& a) {
    ConvRequest r;
    r.function = p.function;
    r.nd = p.nd;
    r.x_shape = x;
    r.w_shape = w;
    const auto size = [](const Shape& s, int axis) { return axis < 0 ? 1 : s[static_cast<std::size_t>(axis)]; };
    const AxisOrder order = p.order();
    r.mb = size(x, order.axis[0]);
    r.ic = size(x, order.axis[1]);
    r.oc = size(w, weight_order.axis[0]);
    r.icg = size(w, weight_order.axis[1]);
    r.groups = parse_int(a.groups, p.function, "groups");
    for (int i = 0; i < p.nd; ++i) {
        r.dim[i].in = size(x, order.axis[5 - p.nd + i]);
        r.dim[i].kernel = size(w, weight_order.axis[5 - p.nd + i]);
    }
    parse_sizes(a.stride, p.nd, p.function, "stride", [&](int i, std::int64_t v) { r.dim[i].stride = v; });
    parse_sizes(a.dilation, p.nd, p.function, "dilation", [&](int i, std::int64_t v) { r.dim[i].dilation = v; });
    parse_padding(a.padding, a.padding_mode, r);
    return r;
}

Shape output_shape(const Problem& p) {
    Shape s(p.x_shape.size());
    const AxisOrder order = p.order();
    const std::int64_t sizes[5] = {p.desc.mb, p.desc.oc, p.desc.d().out, p.desc.h().out, p.desc.w().out};
    for (int i = 0; i < 5; ++i)
        if (order.axis[i] >= 0) s[static_cast<std::size_t>(order.axis[i])] = sizes[i];
    return s;
}

Tensor weight_view(const py::array& w, const Problem& p, const AxisOrder& order, bool flip) {
    Tensor v = view(w, p.dtype, order);
    if (!flip) return v;
    std::int64_t last = 0;
    for (int i = 2; i < 5; ++i) {
        last += (v.size[i] - 1) * v.stride[i];
        v.stride[i] = -v.stride[i];
    }
    v.data = static_cast<char*>(v.data) + last * static_cast<std::int64_t>(item_size(p.dtype));
    return v;
}

}  // namespace

Problem make_problem(int nd, const Shape& x_shape, std::optional<py::dtype> x_type, const Arguments& a, bool residual) {
    Problem p;
    if (nd < 1 || nd > 3) fail("conv", "nd must be 1, 2 or 3, got ", nd);
    p.nd = nd;
    p.function = function_name(nd);
    const std::string& f = p.function;
    const py::array weight = as_array(a.weight, f, "weight");
    std::vector<py::dtype> types;
    if (x_type) types.push_back(*x_type);
    types.push_back(weight.dtype());
    if (!a.bias.is_none()) types.push_back(as_array(a.bias, f, "bias").dtype());
    if (!a.scale.is_none()) types.push_back(as_array(a.scale, f, "scale").dtype());
    p.dtype = result_dtype(types, a.dtype, f);
    if (!a.acc_dtype.is_none()) {
        const DType acc = result_dtype({numpy_dtype(p.dtype)}, a.acc_dtype, f);
        if (acc != p.dtype) {
            PyErr_SetString(PyExc_NotImplementedError,
                            (f + ": acc_dtype " + text(a.acc_dtype) + " differs from the result's dtype, which has no kernel yet").c_str());
            throw py::error_already_set();
        }
    }

    const Shape w_shape = shape_of(weight);
    check_rank(p, x_shape, w_shape);
    p.x_shape = x_shape;
    p.batched = x_shape.size() == static_cast<std::size_t>(nd) + 2;
    p.channels_last = parse_channels_last(a.data_format, nd, f);
    const AxisOrder weight_order = parse_weight_format(a.weight_format, nd, f);
    p.desc = make_desc(make_request(p, x_shape, w_shape, weight_order, a));
    p.desc.src = p.desc.wei = p.desc.dst = p.desc.acc = p.dtype;
    // With one channel both orders are the same memory, which classify() calls nchw.
    p.desc.src_order = p.channels_last && p.desc.ic > 1 ? Order::nhwc : Order::nchw;
    p.desc.dst_order = p.channels_last && p.desc.oc > 1 ? Order::nhwc : Order::nchw;
    p.desc.accuracy = parse_accuracy(a.accuracy, f);
    p.output_shape = output_shape(p);

    p.weight = usable(weight, p.dtype, f, "weight");
    p.weight_view = weight_view(p.weight, p, weight_order, parse_bool(a.flip, f, "flip"));
    if (!a.bias.is_none()) p.bias = channel_vector(a.bias, "bias", p);
    if (!a.scale.is_none()) p.scale = channel_vector(a.scale, "scale", p);
    p.activation = parse_activation(a.activation, f);
    p.padding_value = parse_real(a.padding_value, f, "padding_value");
    Epilogue& e = p.desc.epilogue;
    e.bias = !a.bias.is_none();
    e.scale = !a.scale.is_none();
    e.activation = p.activation.kind;
    const bool after = parse_bool(a.residual_after, f, "residual_after");
    if (residual) e.residual = after && e.activation != Activation::none ? Residual::after : Residual::before;

    p.explicit_threads = !a.num_threads.is_none();
    p.options.threads = parse_threads(a.num_threads, f);
    p.options.forced = parse_algorithm(a.algorithm, f);
    p.options.workspace_limit = parse_limit(a.workspace_limit, f);
    p.options.reproducible = reproducible();
    return p;
}

CallArrays prepare_call(const Problem& p, py::handle x, py::handle residual, py::handle out) {
    CallArrays c;
    const std::string& f = p.function;
    c.x = usable(as_array(x, f, "x"), p.dtype, f, "x");
    c.args.src = view(c.x, p.dtype, p.order());
    c.src_order = classify(c.args.src);

    Shape expected = p.output_shape;
    if (p.batched) expected[0] = c.args.src.size[0];
    bool direct = true;
    if (out.is_none()) {
        c.computed = c.out = empty(expected, p.dtype);
    } else {
        if (!py::isinstance<py::array>(out)) throw py::type_error(f + ": out must be a NumPy array, got " + text(py::type::of(out)));
        c.out = py::reinterpret_borrow<py::array>(out);
        if (!is_native(c.out.dtype(), p.dtype))
            throw py::type_error(f + ": out has dtype " + text(c.out.dtype()) + ", expected native " + text(numpy_dtype(p.dtype)));
        if (!has_shape(c.out, expected))
            fail(f, "out has shape ", shape_text(shape_of(c.out)), ", expected ", shape_text(expected));
        if (!c.out.writeable()) fail(f, "out is read-only, expected a writable array");
        if (overlaps_itself(c.out)) fail(f, "out has elements that share memory, expected each to have its own");
        direct = usable(c.out, p.dtype, f, "out").is(c.out);
        const Extent written(c.out);
        if (written.overlaps(Extent(c.x))) direct = false;
        if (!p.owns_weights)
            for (const py::array* a : {&p.weight, &p.bias, &p.scale})
                if (*a && written.overlaps(Extent(*a))) direct = false;
    }
    if (!residual.is_none()) {
        c.residual = usable(as_array(residual, f, "residual"), p.dtype, f, "residual");
        if (!has_shape(c.residual, expected))
            fail(f, "residual has shape ", shape_text(shape_of(c.residual)), ", expected that of the output ", shape_text(expected));
        if (Extent(c.out).overlaps(Extent(c.residual)) && !same_memory(c.out, c.residual)) direct = false;
        c.args.residual = view(c.residual, p.dtype, p.order());
    }
    if (direct) {
        c.computed = c.out;
        c.args.dst = view(c.out, p.dtype, p.order());
        c.dst_order = classify(c.args.dst);
    }
    if (!direct || c.dst_order == Order::any) {
        if (verbose()) log(f + ": out is computed through a temporary of shape " + shape_text(expected));
        c.computed = empty(expected, p.dtype);
        c.args.dst = view(c.computed, p.dtype, p.order());
        c.dst_order = classify(c.args.dst);
    }
    c.args.wei = p.weight_view;
    c.args.bias = p.desc.epilogue.bias ? p.bias.data() : nullptr;
    c.args.scale = p.desc.epilogue.scale ? p.scale.data() : nullptr;
    c.args.padding_value = p.padding_value;
    c.args.activation_params[0] = p.activation.params[0];
    c.args.activation_params[1] = p.activation.params[1];
    return c;
}

py::array finish_call(const CallArrays& c) {
    if (!c.computed.is(c.out)) py::module_::import("numpy").attr("copyto")(c.out, c.computed);
    return c.out;
}

void log_plan(const Problem& p, const PlannedCall& call) {
    const Plan& plan = *call.plan;
    log(p.function + ": " + plan.desc.text() + " -> " + plan.algorithm.name + " (" + params_text(plan.algorithm, plan.params) + ") by " +
        call.source + ", " + plan.isa.name + ", " + std::to_string(call.threads) + " threads");
}

}  // namespace npconv::bindings
