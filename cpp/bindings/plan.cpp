// The class Plan.
#include "module.hpp"
#include "plan_object.hpp"

namespace npconv::bindings {

void register_plan(py::module_& m) {
    py::class_<PyPlan> plan(m, "Plan", py::is_final(),
                            py::custom_type_setup([](PyHeapTypeObject* type) { make_room_for_vectorcall(&type->ht_type); }),
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
    set_call_slots(reinterpret_cast<PyTypeObject*>(plan.ptr()));
}

}  // namespace npconv::bindings
