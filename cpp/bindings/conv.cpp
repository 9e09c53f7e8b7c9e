// conv() and describe().
#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <mutex>
#include <new>

#include "algorithms/run.hpp"
#include "core/check.hpp"
#include "core/request.hpp"
#include "core/workspace.hpp"
#include "dispatch/plan_cache.hpp"
#include "module.hpp"
#include "problem.hpp"
#include "threading/cpu_count.hpp"

namespace npconv::bindings {
namespace {

// Under NPCONV_VERBOSE: a hint when the same weights are packed for the hundredth time.
void count_packing(const Problem& p) {
    static std::mutex mutex;
    static std::map<const void*, int> counts;
    const std::lock_guard<std::mutex> lock(mutex);
    if (counts.size() > 1000) counts.clear();
    if (++counts[p.weight.data()] == 100) log(p.function + ": the same weights were packed 100 times; use plan_" + p.function);
}

// The parameters of conv() in python/npconv/_npconv.pyi, all of them, in their order.
py::array conv(PyObject* const* given, Py_ssize_t n) {
    enum { nd_, x, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format, weight_format, flip, scale,
           activation, residual_, residual_after, out, dtype, acc_dtype, algorithm, accuracy, num_threads, workspace_limit, count };
    if (n != count) throw py::type_error("conv: expected " + std::to_string(count) + " arguments, got " + std::to_string(n));
    const auto at = [&](int i) { return py::handle(given[i]); };
    const std::int64_t dimensions = parse_int(at(nd_), "conv", "nd");
    if (dimensions < 1 || dimensions > 3) fail("conv", "nd must be 1, 2 or 3, got ", dimensions);
    const int nd = static_cast<int>(dimensions);
    const py::handle residual = at(residual_);
    const Arguments a{at(weight), at(bias), at(stride), at(padding), at(dilation), at(groups), at(padding_mode), at(padding_value),
                      at(data_format), at(weight_format), at(flip), at(scale), at(activation), at(residual_after), at(dtype),
                      at(acc_dtype), at(algorithm), at(accuracy), at(num_threads), at(workspace_limit)};
    const py::array image = as_array(at(x), "conv" + std::to_string(nd) + "d", "x");
    Problem p = make_problem(nd, shape_of(image), image.dtype(), a, !residual.is_none());
    CallArrays c = prepare_call(p, image, residual, at(out));
    p.desc.src_order = c.src_order;
    p.desc.dst_order = c.dst_order;
    p.desc.weights = Weights::fresh;
    p.options.function = p.function.c_str();
    const PlannedCall call = get_plan(p.desc, p.options);
    if (verbose()) {
        log_plan(p, call);
        count_packing(p);
    }
    {
        const py::gil_scoped_release released;
        const RunningCall running;
        c.args.threads = running.share(call.threads);
        const Lease packed(call.plan->packed_bytes());
        if (packed.data()) call.plan->pack(p.weight_view, packed.data(), c.args.threads);
        c.args.packed = packed.data();
        run(*call.plan, c.args);
    }
    return finish_call(c);
}

std::string describe(int nd, py::handle x_shape, py::handle x_dtype, py::handle weight_shape, py::handle weight_dtype, bool has_bias,
                     py::handle stride, py::handle padding, py::handle dilation, py::handle groups, py::handle padding_mode,
                     py::handle data_format, py::handle weight_format, bool has_scale, py::handle activation, bool has_residual,
                     bool residual_after, py::handle accuracy, bool fresh) {
    const py::module_ np = py::module_::import("numpy");
    const std::string function = "conv" + std::to_string(nd) + "d";
    const py::object none = py::none();
    // Weights of no memory: one element broadcast to the shape.
    const py::object weight = np.attr("broadcast_to")(np.attr("zeros")(py::tuple(), weight_dtype), weight_shape);
    const py::object zero = py::int_(0), automatic = py::str("auto"), no = py::bool_(false), after = py::bool_(residual_after);
    const Arguments a{weight, none, stride, padding, dilation, groups, padding_mode, zero, data_format, weight_format, no,
                      none, activation, after, none, none, automatic, accuracy, none, none};
    const py::dtype x_type = py::reinterpret_borrow<py::dtype>(np.attr("dtype")(x_dtype));
    Problem p = make_problem(nd, parse_shape(x_shape, function, "x_shape"), x_type, a, has_residual);
    p.desc.epilogue.bias = has_bias;
    p.desc.epilogue.scale = has_scale;
    p.desc.weights = fresh ? Weights::fresh : Weights::constant;
    return p.desc.text();
}

}  // namespace

void register_conv(py::module_& m) {
    // pybind11 would take a quarter of a small call for 24 arguments that parse.hpp reads anyway.
    static const auto fast = [](PyObject*, PyObject* const* given, Py_ssize_t n) -> PyObject* { return to_python([&] { return conv(given, n); }); };
    using Fast = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);
    static PyMethodDef definition = {"conv", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(static_cast<Fast>(fast))),
                                     METH_FASTCALL, "One convolution; use conv1d, conv2d and conv3d."};
    m.add_object("conv", py::reinterpret_steal<py::object>(PyCFunction_NewEx(&definition, nullptr, m.attr("__name__").ptr())));
    m.def("describe", &describe);
}

}  // namespace npconv::bindings
