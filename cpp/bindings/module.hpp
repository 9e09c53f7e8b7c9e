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

}  // namespace npconv::bindings
