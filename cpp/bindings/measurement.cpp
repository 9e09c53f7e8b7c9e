// Timing of single candidates, and the mode of the tuner.
#include <pybind11/stl.h>

#include "core/check.hpp"
#include "dispatch/choose.hpp"
#include "module.hpp"
#include "parse.hpp"
#include "tuner/measure.hpp"

namespace npconv::bindings {
namespace {

// The time limit belongs to the Python loop; it is kept here beside the mode so that both are set at once.
double time_limit = 0;  // seconds; 0 = none. Guarded by the GIL

// A measurement with the names of algorithm and parameters looked up.
class PyMeasurement {
public:
    PyMeasurement(const std::string& text, int threads)
        : desc_(ConvDesc::parse(text)), threads_(checked_threads(threads, "Measurement")), measurement_(desc_, threads_) {}

    double run(const std::string& algorithm, const std::string& parameters, double seconds) {
        const auto [a, p] = find(algorithm, parameters);
        const py::gil_scoped_release released;
        return measurement_.run(*a, p, seconds);
    }
    std::pair<double, double> error(const std::string& algorithm, const std::string& parameters) {
        const auto [a, p] = find(algorithm, parameters);
        const py::gil_scoped_release released;
        return measurement_.error(*a, p);
    }

private:
    std::pair<const Algorithm*, Params> find(const std::string& name, const std::string& parameters) const {
        const Algorithm* a = find_algorithm(name);
        if (!a) fail("Measurement", "algorithm '", name, "' is unknown");
        const std::string reason = a->refuse(desc_, current_isa());
        if (!reason.empty()) fail("Measurement", name, " ", reason);
        for (Rigor r : {Rigor::measure, Rigor::exhaustive})
            for (const Params& p : a->candidates(desc_, current_isa(), threads_, r))
                if (params_text(*a, p) == parameters) return {a, p};
        fail("Measurement", "'", parameters, "' is not among the candidates of ", name);
    }

    ConvDesc desc_;
    int threads_;
    Measurement measurement_;
};

}  // namespace

void register_measurement(py::module_& m) {
    m.def("set_tuning", [](const std::string& mode, const py::object& limit) {
        const Rigor r = parse_rigor(mode, "tuning", true);
        const double seconds = limit.is_none() ? 0 : parse_real(limit, "tuning", "time_limit");
        if (!limit.is_none() && !(seconds > 0)) fail("tuning", "time_limit must be positive, got ", seconds);
        set_tuning(r);
        time_limit = seconds;
    }, py::arg("mode"), py::arg("time_limit"), py::pos_only());
    m.def("get_tuning", [] {
        return py::make_tuple(rigor_name(tuning()), time_limit > 0 ? py::object(py::float_(time_limit)) : py::object(py::none()));
    });
    py::class_<PyMeasurement>(m, "Measurement", py::is_final())
        .def(py::init<const std::string&, int>(), py::arg("descriptor"), py::arg("num_threads"), py::pos_only())
        .def("run", &PyMeasurement::run, py::arg("algorithm"), py::arg("parameters"), py::arg("seconds"), py::pos_only())
        .def("error", &PyMeasurement::error, py::arg("algorithm"), py::arg("parameters"), py::pos_only());
}

}  // namespace npconv::bindings
