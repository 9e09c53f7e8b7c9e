#include "module.hpp"

#include "isa/isa.hpp"

PYBIND11_MODULE(_npconv, m) {
    m.doc() = "The compiled core of npconv. Use the package npconv, not this module.";
    m.attr("__version__") = NPCONV_VERSION;
    npconv::current_isa();  // an impossible NPCONV_ISA is an error of the import, not of some later call
    npconv::bindings::register_conv(m);
    npconv::bindings::register_plan(m);
    npconv::bindings::register_runtime(m);
    npconv::bindings::register_machine(m);
    npconv::bindings::register_tuner(m);
    npconv::bindings::register_measurement(m);
    npconv::bindings::register_wisdom(m);
}
