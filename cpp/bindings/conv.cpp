// conv(), describe() and the class Plan.
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

void log_plan(const Problem& p, const PlannedCall& call) {
    const Plan& plan = *call.plan;
    log(p.function + ": " + plan.desc.text() + " -> " + plan.algorithm.name + " (" + params_text(plan.algorithm, plan.params) + ") by " +
        call.source + ", " + plan.isa.name + ", " + std::to_string(call.threads) + " threads");
}

// Under NPCONV_VERBOSE: a hint when the same weights are packed for the hundredth time.
void count_packing(const Problem& p) {
    static std::mutex mutex;
    static std::map<const void*, int> counts;
    const std::lock_guard<std::mutex> lock(mutex);
    if (counts.size() > 1000) counts.clear();
    if (++counts[p.weight.data()] == 100) log(p.function + ": the same weights were packed 100 times; use plan_" + p.function);
}

py::array conv(int nd, py::handle x, py::handle weight, py::handle bias, py::handle stride, py::handle padding, py::handle dilation,
               py::handle groups, py::handle padding_mode, py::handle padding_value, py::handle data_format, py::handle weight_format,
               py::handle flip, py::handle scale, py::handle activation, py::handle residual, py::handle residual_after, py::handle out,
               py::handle dtype, py::handle acc_dtype, py::handle algorithm, py::handle accuracy, py::handle num_threads,
               py::handle workspace_limit) {
    const Arguments a{weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format, weight_format, flip,
                      scale, activation, residual_after, dtype, acc_dtype, algorithm, accuracy, num_threads, workspace_limit};
    const py::array image = as_array(x, "conv" + std::to_string(nd) + "d", "x");
    Problem p = make_problem(nd, shape_of(image), image.dtype(), a, !residual.is_none());
    CallArrays c = prepare_call(p, image, residual, out);
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

// Owns copies of the weights, packed and plain: later writes to the user's array don't reach it, repair and pickling
// need the plain ones.
class PyPlan {
public:
    PyPlan(int nd, py::handle x_shape, py::handle weight, py::handle bias, py::handle stride, py::handle padding, py::handle dilation,
           py::handle groups, py::handle padding_mode, py::handle padding_value, py::handle data_format, py::handle weight_format,
           py::handle flip, py::handle scale, py::handle activation, py::handle residual, py::handle residual_after, py::handle dtype,
           py::handle acc_dtype, py::handle algorithm, py::handle accuracy, py::handle num_threads, py::handle workspace_limit) {
        const std::string function = "conv" + std::to_string(nd) + "d";
        const py::object own_weight = copy(weight, function, "weight");
        const py::object own_bias = copy(bias, function, "bias"), own_scale = copy(scale, function, "scale");
        const Arguments a{own_weight, own_bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format, weight_format,
                          flip, own_scale, activation, residual_after, dtype, acc_dtype, algorithm, accuracy, num_threads, workspace_limit};
        has_residual_ = parse_bool(residual, function, "residual");
        problem_ = make_problem(nd, parse_shape(x_shape, function, "x_shape"), std::nullopt, a, has_residual_);
        problem_.options.function = problem_.function.c_str();
        // For a batch of nothing the choice is made as for one image: the plan serves any batch.
        ConvDesc desc = problem_.desc;
        if (desc.mb == 0) desc.mb = 1;
        call_ = make_plan(desc, problem_.options);
        if (verbose()) log_plan(problem_, call_);
        const std::size_t bytes = call_.plan->packed_bytes();
        if (bytes > 0) packed_ = make_buffer(bytes);
        {
            const py::gil_scoped_release released;
            if (bytes > 0) call_.plan->pack(problem_.weight_view, packed_.get(), call_.threads);
        }
        arguments_ = py::make_tuple(nd, py::tuple(py::cast(problem_.x_shape)), own_weight, own_bias, stride, padding, dilation, groups,
                                    padding_mode, padding_value, data_format, weight_format, flip, own_scale, activation, residual,
                                    residual_after, dtype, acc_dtype, algorithm, accuracy, num_threads, workspace_limit);
    }

    py::array call(py::handle x, py::handle out, py::handle residual, py::handle num_threads) const {
        const Problem& p = problem_;
        py::array image = as_array(x, p.function, "x");
        check_shape(image);
        if (has_residual_ != !residual.is_none())
            fail(p.function, has_residual_ ? "the plan was made with residual=True, expected one" : "the plan was made without residual, got one");
        CallArrays c = prepare_call(p, image, residual, out);
        in_planned_order(c);
        const int threads = num_threads.is_none() ? call_.threads : parse_threads(num_threads, p.function);
        {
            const py::gil_scoped_release released;
            const RunningCall running;
            c.args.threads = running.share(threads);
            c.args.packed = packed_.get();
            run(*call_.plan, c.args);
        }
        return finish_call(c);
    }

    const Plan& plan() const { return *call_.plan; }
    const Problem& problem() const { return problem_; }
    std::size_t workspace_bytes() const { return plan().workspace_bytes(problem_.desc.mb, call_.threads); }
    py::tuple arguments() const { return arguments_; }

private:
    static py::object copy(py::handle h, const std::string& function, const char* argument) {
        if (h.is_none()) return py::none();
        const py::object own = as_array(h, function, argument).attr("copy")();
        own.attr("setflags")(py::arg("write") = false);
        return own;
    }

    void check_shape(const py::array& x) const {
        Shape expected = problem_.x_shape, got = shape_of(x);
        if (problem_.batched && got.size() == expected.size()) expected[0] = got[0];
        if (got != expected)
            fail(problem_.function, "the plan was made for x of shape ", shape_text(problem_.x_shape), problem_.batched ? " (any batch size)" : "",
                 ", got ", shape_text(got));
    }

    // A plan is made for one memory order of x and out; arrays in another one go through a copy.
    void in_planned_order(CallArrays& c) const {
        const Problem& p = problem_;
        const Order order = plan().desc.src_order;
        if (c.src_order != order) {
            py::array dense = empty(shape_of(c.x), p.dtype);
            py::module_::import("numpy").attr("copyto")(dense, c.x);
            if (verbose()) log(p.function + ": x is copied to the memory order of the plan");
            c.x = dense;
            c.args.src = view(c.x, p.dtype, p.order());
            classify(c.args.src);
        }
        if (c.dst_order != plan().desc.dst_order) {
            c.computed = empty(shape_of(c.out), p.dtype);
            c.args.dst = view(c.computed, p.dtype, p.order());
            classify(c.args.dst);
        }
    }

    Problem problem_;
    bool has_residual_ = false;
    PlannedCall call_;
    Buffer packed_;
    py::tuple arguments_;
};

}  // namespace

void register_conv(py::module_& m) {
    m.def("conv", &conv);
    m.def("describe", &describe);
    py::class_<PyPlan>(m, "Plan", py::is_final(),
                       "A convolution whose algorithm is chosen and whose weights are packed; plan_conv1d, plan_conv2d and "
                       "plan_conv3d make it.")
        .def(py::init<int, py::handle, py::handle, py::handle, py::handle, py::handle, py::handle, py::handle, py::handle, py::handle,
                      py::handle, py::handle, py::handle, py::handle, py::handle, py::handle, py::handle, py::handle, py::handle,
                      py::handle, py::handle, py::handle, py::handle>())
        .def("__call__", &PyPlan::call, py::arg("x"), py::arg("out") = py::none(), py::arg("residual") = py::none(),
             py::arg("num_threads") = py::none())
        .def_property_readonly("algorithm", [](const PyPlan& p) { return p.plan().algorithm.name; })
        .def_property_readonly("isa", [](const PyPlan& p) { return p.plan().isa.name; })
        .def_property_readonly("parameters", [](const PyPlan& p) { return params_text(p.plan().algorithm, p.plan().params); })
        .def_property_readonly("descriptor", [](const PyPlan& p) { return p.problem().desc.text(); })
        .def_property_readonly("workspace_bytes", &PyPlan::workspace_bytes)
        .def_property_readonly("packed_bytes", [](const PyPlan& p) { return p.plan().packed_bytes(); })
        .def_property_readonly("flops", [](const PyPlan& p) { return p.problem().desc.flops(); })
        .def_property_readonly("x_shape", [](const PyPlan& p) { return py::tuple(py::cast(p.problem().x_shape)); })
        .def_property_readonly("output_shape", [](const PyPlan& p) { return py::tuple(py::cast(p.problem().output_shape)); })
        .def("__repr__",
             [](const PyPlan& p) {
                 return std::string("<npconv.Plan ") + p.plan().algorithm.name + " " + p.plan().isa.name + " " + p.problem().desc.text() + ">";
             })
        .def("__reduce__", [](const py::object& self) {
            return py::make_tuple(py::type::of(self), self.cast<const PyPlan&>().arguments());
        });
}

}  // namespace npconv::bindings
