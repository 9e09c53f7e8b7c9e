#include "plan_object.hpp"

#include <algorithm>

#include "core/check.hpp"
#include "module.hpp"
#include "threading/cpu_count.hpp"

namespace npconv::bindings {
namespace {

py::object copy(py::handle h, const std::string& function, const char* argument) {
    if (h.is_none()) return py::none();
    const py::object own = as_array(h, function, argument).attr("copy")();
    own.attr("setflags")(py::arg("write") = false);
    return own;
}

// Where a call's arguments are, by position or by name; null where there is none. Parameters as in register_plan().
class CallArguments {
public:
    void by_position(PyObject* const* values, Py_ssize_t n) {
        if (n > count) throw py::type_error("Plan: expected at most 4 arguments, got " + std::to_string(n));
        std::copy(values, values + n, given_);
    }
    void by_name(PyObject* name, PyObject* value) {
        static PyObject* const names[count] = {PyUnicode_InternFromString("x"), PyUnicode_InternFromString("out"),
                                               PyUnicode_InternFromString("residual"), PyUnicode_InternFromString("num_threads")};
        if (!PyUnicode_Check(name)) throw py::type_error("Plan: keywords must be strings");
        int i = 0;
        while (i < count && name != names[i]) ++i;
        if (i == count)  // names are interned, nearly always
            for (i = 0; i < count && PyUnicode_Compare(name, names[i]) != 0;) ++i;
        if (i == count) throw py::type_error("Plan: unexpected argument " + text(name) + ", expected x, out, residual or num_threads");
        if (given_[i]) throw py::type_error("Plan: argument " + text(name) + " is given twice");
        given_[i] = value;
    }
    py::handle operator[](int i) const {
        if (i == 0 && !given_[0]) throw py::type_error("Plan: the argument x is missing");
        return given_[i] ? given_[i] : Py_None;
    }

private:
    static std::string text(PyObject* name) { return py::repr(name); }
    enum { count = 4 };
    PyObject* given_[count] = {};
};

PyTypeObject* plan_type() {
    static PyTypeObject* const type = reinterpret_cast<PyTypeObject*>(py::type::of<PyPlan>().release().ptr());
    return type;
}

// `collect` fills CallArguments.
template <class Collect> PyObject* call(PyObject* self, Collect&& collect) {
    return to_python([&] {
        CallArguments a;
        collect(a);
        return plan_of(self).call(a[0], a[1], a[2], a[3]);
    });
}

PyObject* vectorcall_plan(PyObject* self, PyObject* const* args, std::size_t flagged, PyObject* names) {
    return call(self, [&](CallArguments& a) {
        const Py_ssize_t n = PyVectorcall_NARGS(flagged), named = names ? PyTuple_GET_SIZE(names) : 0;
        a.by_position(args, n);
        for (Py_ssize_t i = 0; i < named; ++i) a.by_name(PyTuple_GET_ITEM(names, i), args[n + i]);
    });
}

}  // namespace

// Plan.__new__ alone leaves an object without a plan, for which pybind11's cast would make one of random bytes. The class is final.
const PyPlan& plan_of(py::handle self) {
    if (Py_TYPE(self.ptr()) != plan_type()) throw py::type_error("Plan: got an object of another type");
    const py::detail::value_and_holder held = reinterpret_cast<py::detail::instance*>(self.ptr())->get_value_and_holder();
    if (!held.holder_constructed()) throw py::type_error("Plan: __init__ was not called");
    return *static_cast<const PyPlan*>(held.value_ptr());
}

void make_room_for_vectorcall(PyTypeObject* type) {
    type->tp_vectorcall_offset = type->tp_basicsize;
    type->tp_basicsize += static_cast<Py_ssize_t>(sizeof(vectorcallfunc));
}

void set_call_slots(PyTypeObject* type) {
    type->tp_call = [](PyObject* self, PyObject* args, PyObject* named) -> PyObject* {
        if (Py_TYPE(self) == plan_type())  // from the next call on without a tuple and a dictionary
            *reinterpret_cast<vectorcallfunc*>(reinterpret_cast<char*>(self) + plan_type()->tp_vectorcall_offset) = vectorcall_plan;
        return call(self, [&](CallArguments& a) {
            a.by_position(&PyTuple_GET_ITEM(args, 0), PyTuple_GET_SIZE(args));
            Py_ssize_t at = 0;
            for (PyObject *name, *value; named && PyDict_Next(named, &at, &name, &value);) a.by_name(name, value);
        });
    };
    type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE;
    PyType_Modified(type);
}

PyPlan::PyPlan(const py::args& given) {
    enum { nd_, x_shape, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format, weight_format,
           flip, scale, activation, residual, residual_after, dtype, acc_dtype, algorithm, accuracy, num_threads, workspace_limit,
           count };
    if (given.size() != count)
        throw py::type_error("Plan: expected " + std::to_string(count) + " arguments, got " + std::to_string(given.size()) +
                             "; use plan_conv1d, plan_conv2d or plan_conv3d");
    const int nd = static_cast<int>(parse_int(given[nd_], "Plan", "nd"));
    const std::string function = "conv" + std::to_string(nd) + "d";
    py::list own(given);
    for (const auto& [i, name] : {std::pair<int, const char*>{weight, "weight"}, {bias, "bias"}, {scale, "scale"}})
        own[static_cast<std::size_t>(i)] = copy(py::object(given[static_cast<std::size_t>(i)]), function, name);
    const auto at = [&](std::size_t i) { return py::handle(PyList_GET_ITEM(own.ptr(), static_cast<py::ssize_t>(i))); };
    const Arguments a{at(weight), at(bias), at(stride), at(padding), at(dilation), at(groups), at(padding_mode), at(padding_value),
                      at(data_format), at(weight_format), at(flip), at(scale), at(activation), at(residual_after), at(dtype),
                      at(acc_dtype), at(algorithm), at(accuracy), at(num_threads), at(workspace_limit)};
    has_residual_ = parse_bool(at(residual), function, "residual");
    problem_ = make_problem(nd, parse_shape(at(x_shape), function, "x_shape"), std::nullopt, a, has_residual_);
    problem_.owns_weights = true;
    problem_.options.function = problem_.function.c_str();
    own[x_shape] = shape_tuple(problem_.x_shape);
    arguments_ = py::tuple(own);
    choose_and_pack();
}

py::array PyPlan::call(py::handle x, py::handle out, py::handle residual, py::handle num_threads) const {
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

PyPlan::~PyPlan() = default;

const PyPlan::Get PyPlan::methods[] = {
    {"__repr__", [](const PyPlan& p) -> py::object {
         return py::str(std::string("<npconv.Plan ") + p.plan().algorithm.name + " " + p.plan().isa.name + " " + p.problem_.desc.text() + ">");
     }},
    // Pickling makes the plan anew.
    {"__reduce__", [](const PyPlan& p) -> py::object { return py::make_tuple(py::type::of<PyPlan>(), p.arguments_); }},
};

const PyPlan::Get PyPlan::properties[] = {
    {"algorithm", [](const PyPlan& p) -> py::object { return py::str(p.plan().algorithm.name); }},
    {"isa", [](const PyPlan& p) -> py::object { return py::str(p.plan().isa.name); }},
    {"parameters", [](const PyPlan& p) -> py::object { return py::str(params_text(p.plan().algorithm, p.plan().params)); }},
    {"descriptor", [](const PyPlan& p) -> py::object { return py::str(p.problem_.desc.text()); }},
    {"workspace_bytes", [](const PyPlan& p) -> py::object { return py::int_(p.plan().workspace_bytes(p.problem_.desc.mb, p.call_.threads)); }},
    {"packed_bytes", [](const PyPlan& p) -> py::object { return py::int_(p.plan().packed_bytes()); }},
    {"flops", [](const PyPlan& p) -> py::object { return py::float_(p.problem_.desc.flops()); }},
    {"x_shape", [](const PyPlan& p) -> py::object { return shape_tuple(p.problem_.x_shape); }},
    {"output_shape", [](const PyPlan& p) -> py::object { return shape_tuple(p.problem_.output_shape); }},
};

void PyPlan::choose_and_pack() {
    // For a batch of nothing the choice is made as for one image: the plan serves any batch.
    ConvDesc desc = problem_.desc;
    if (desc.mb == 0) desc.mb = 1;
    call_ = make_plan(desc, problem_.options);
    if (verbose()) log_plan(problem_, call_);
    const std::size_t bytes = call_.plan->packed_bytes();
    if (bytes == 0) return;
    packed_ = make_buffer(bytes);
    const py::gil_scoped_release released;
    call_.plan->pack(problem_.weight_view, packed_.get(), call_.threads);
}

void PyPlan::check_shape(const py::array& x) const {
    const Shape& expected = problem_.x_shape;
    const std::size_t any = problem_.batched ? 1 : 0;  // the first axis
    if (static_cast<std::size_t>(x.ndim()) != expected.size() || !std::equal(expected.begin() + any, expected.end(), x.shape() + any))
        fail(problem_.function, "the plan was made for x of shape ", shape_text(expected), problem_.batched ? " (any batch size)" : "",
             ", got ", shape_text(shape_of(x)));
}

// A plan is made for one memory order of x and out; arrays in another one go through a copy.
void PyPlan::in_planned_order(CallArrays& c) const {
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

}  // namespace npconv::bindings
