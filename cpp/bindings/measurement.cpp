// Timing of single candidates.
#include "core/check.hpp"
#include "module.hpp"
#include "parse.hpp"
#include "tuner/measure.hpp"

namespace npconv::bindings {
namespace {

// A measurement with the names of algorithm and parameters looked up.
class PyMeasurement {
public:
    PyMeasurement(const std::string& text, int threads)
        : measurement_(ConvDesc::parse(text), checked_threads(threads, "Measurement")) {}

    double run(const std::string& algorithm, const std::string& parameters, double seconds) {
        const auto [a, p] = measurement_.candidate(algorithm, parameters);
        const py::gil_scoped_release released;
        return measurement_.run(*a, p, seconds);
    }
    py::tuple error(const std::string& algorithm, const std::string& parameters) {
        const auto [a, p] = measurement_.candidate(algorithm, parameters);
        std::pair<double, double> worst;
        {
            const py::gil_scoped_release released;
            worst = measurement_.error(*a, p);
        }
        return py::make_tuple(worst.first, worst.second);
    }

private:
    Measurement measurement_;
};

}  // namespace

void register_measurement(py::module_& m) {
    py::class_<PyMeasurement>(m, "Measurement", py::is_final())
        .def(py::init<const std::string&, int>(), py::arg("descriptor"), py::arg("num_threads"), py::pos_only())
        .def("run", &PyMeasurement::run, py::arg("algorithm"), py::arg("parameters"), py::arg("seconds"), py::pos_only())
        .def("error", &PyMeasurement::error, py::arg("algorithm"), py::arg("parameters"), py::pos_only());
}

}  // namespace npconv::bindings
