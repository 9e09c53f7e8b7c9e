// Measures what isa/machine.hpp describes.
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "npconv/tensor.hpp"

namespace npconv {

double measure_peak_flops(DType, int threads, double seconds);                     // FLOP/s of all threads together
double measure_bandwidth(int threads, double seconds, std::size_t bytes);          // bytes read plus written a second
std::map<std::string, double> measure_machine_constants(double seconds);           // for set_machine_constants

}  // namespace npconv
