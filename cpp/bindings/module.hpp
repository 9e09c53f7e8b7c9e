// The parts of the extension module; each registers its functions.
#pragma once

#include <pybind11/pybind11.h>

namespace npconv::bindings {

void register_conv(pybind11::module_&);         // conv, describe
void register_plan(pybind11::module_&);         // Plan
void register_runtime(pybind11::module_&);      // threads, memory, tuning mode, reproducibility
void register_machine(pybind11::module_&);      // ISA, constants, what is in force
void register_tuner(pybind11::module_&);        // descriptors, explain, candidates
void register_measurement(pybind11::module_&);  // Measurement
void register_wisdom(pybind11::module_&);       // the table and the hooks

// What a function gives that CPython calls without pybind11's dispatcher: the object that body() returns, or null and Python's form of the exception.
template <class Body> PyObject* to_python(Body&& body) noexcept {
    try {
        return body().release().ptr();
    } catch (pybind11::error_already_set& error) {
        error.restore();
    } catch (...) {
        pybind11::detail::try_translate_exceptions();
    }
    return nullptr;
}

}  // namespace npconv::bindings
