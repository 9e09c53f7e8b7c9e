// From the Python values of the parameters (ints, tuples, strings) to plain ones. Shape rules are ConvDesc's business.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "arrays.hpp"
#include "core/request.hpp"
#include "dispatch/choose.hpp"

namespace npconv::bindings {

struct ActivationValue {
    Activation kind = Activation::none;
    double params[2] = {0, 0};
};

std::int64_t parse_int(py::handle, const std::string& function, const char* argument);
bool parse_bool(py::handle, const std::string& function, const char* argument);
double parse_real(py::handle, const std::string& function, const char* argument);
std::string parse_string(py::handle, const std::string& function, const char* argument);
Shape parse_shape(py::handle, const std::string& function, const char* argument);

// One value or one for each of nd axes.
void parse_sizes(py::handle, int nd, const std::string& function, const char* argument,
                 const std::function<void(int axis, std::int64_t value)>& set);
void parse_padding(py::handle padding, py::handle mode, ConvRequest&);
ActivationValue parse_activation(py::handle, const std::string& function);
bool parse_channels_last(py::handle data_format, int nd, const std::string& function);
// Where O, I, D, H, W lie in the user's weight array.
AxisOrder parse_weight_format(py::handle weight_format, int nd, const std::string& function);
Accuracy parse_accuracy(py::handle, const std::string& function);
const Algorithm* parse_algorithm(py::handle, const std::string& function);  // null for "auto"
int parse_threads(py::handle, const std::string& function);                  // current default for None
std::size_t parse_limit(py::handle, const std::string& function);            // 0 for None

int checked_threads(std::int64_t n, const std::string& function, const char* argument = "num_threads");
const char* rigor_name(Rigor);
Rigor parse_rigor(const std::string&, const char* function, bool estimate_allowed);

// The number of threads a call on this thread uses when it says nothing: with nc.threads(n), else the default.
int current_threads();
int exchange_thread_limit(int n);  // of the calling thread; 0 = none

}  // namespace npconv::bindings
