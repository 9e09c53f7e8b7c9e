// The class Plan.
#include "module.hpp"
#include "plan_object.hpp"

namespace npconv::bindings {
namespace {

// Where a call's arguments are, by position or by name; null where there is none. Parameters as in register_plan().
struct CallArguments {
    enum { count = 4 };
    PyObject* given[count] = {};

    CallArguments(PyObject* args, PyObject* named) {
        static PyObject* const names[count] = {PyUnicode_InternFromString("x"), PyUnicode_InternFromString("out"),
                                               PyUnicode_InternFromString("residual"), PyUnicode_InternFromString("num_threads")};
        const Py_ssize_t n = PyTuple_GET_SIZE(args);
        if (n > count) throw py::type_error("Plan: expected at most 4 arguments, got " + std::to_string(n));
        for (Py_ssize_t i = 0; i < n; ++i) given[i] = PyTuple_GET_ITEM(args, i);
        Py_ssize_t at = 0;
        for (PyObject *name, *value; named && PyDict_Next(named, &at, &name, &value);) {
            if (!PyUnicode_Check(name)) throw py::type_error("Plan: keywords must be strings");
            int i = 0;
            while (i < count && name != names[i]) ++i;
            if (i == count)  // names are interned, nearly always
                for (i = 0; i < count && PyUnicode_Compare(name, names[i]) != 0;) ++i;
            if (i == count) throw py::type_error("Plan: unexpected argument " + text(name) + ", expected x, out, residual or num_threads");
            if (given[i]) throw py::type_error("Plan: argument " + text(name) + " is given twice");
            given[i] = value;
        }
        if (!given[0]) throw py::type_error("Plan: the argument x is missing");
    }
    static std::string text(PyObject* name) { return py::repr(name); }
    py::handle operator[](int i) const { return given[i] ? given[i] : Py_None; }
};

// The plan of a Python object that is one. Plan.__new__ alone leaves an object without, for which pybind11's cast would make one of
// random bytes.
const PyPlan& plan_of(py::handle self) {
    if (!py::isinstance<PyPlan>(self)) throw py::type_error("Plan: got an object of another type");
    if (!reinterpret_cast<py::detail::instance*>(self.ptr())->get_value_and_holder().holder_constructed())
        throw py::type_error("Plan: __init__ was not called");
    return self.cast<const PyPlan&>();
}

// plan(x, out=y) without pybind11's dispatcher, which takes as long as all the rest of a small layer's call.
PyObject* call_plan(PyObject* self, PyObject* args, PyObject* named) {
    try {
        const CallArguments a(args, named);
        return plan_of(self).call(a[0], a[1], a[2], a[3]).release().ptr();
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (...) {
        py::detail::try_translate_exceptions();
    }
    return nullptr;
}

}  // namespace

void register_plan(py::module_& m) {
    py::class_<PyPlan> plan(m, "Plan", py::is_final(),
                            "A convolution whose algorithm is chosen and whose weights are packed; plan_conv1d, plan_conv2d and "
                            "plan_conv3d make it.");
    plan.def(py::init<const py::args&>())
        .def(
            "__call__",
            [](py::handle self, py::handle x, py::handle out, py::handle residual, py::handle num_threads) {
                return plan_of(self).call(x, out, residual, num_threads);
            },
            py::arg("x"), py::arg("out") = py::none(), py::arg("residual") = py::none(), py::arg("num_threads") = py::none());
    const auto checked = [](PyPlan::Get::second_type get) { return [get](py::handle self) { return get(plan_of(self)); }; };
    for (const auto& [name, get] : PyPlan::methods) plan.def(name, checked(get));
    for (const auto& [name, get] : PyPlan::properties) plan.def_property_readonly(name, checked(get));
    reinterpret_cast<PyTypeObject*>(plan.ptr())->tp_call = call_plan;
}

}  // namespace npconv::bindings
