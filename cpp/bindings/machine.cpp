// The machine: levels, constants, what is in force.
#include <pybind11/stl.h>

#include <cmath>

#include "core/check.hpp"
#include "dispatch/choose.hpp"
#include "isa/isa.hpp"
#include "isa/machine.hpp"
#include "module.hpp"
#include "parse.hpp"
#include "threading/cpu_count.hpp"
#include "threading/measure.hpp"

namespace npconv::bindings {
namespace {

int thread_count(py::handle threads, const char* function) {
    return checked_threads(parse_int(threads, function, "threads"), function, "threads");
}

double positive(double v, const char* function, const char* argument) {
    if (!(v > 0) || !std::isfinite(v)) fail(function, argument, " must be positive, got ", v);
    return v;
}

DType parse_dtype(const std::string& s, const char* function) {
    if (s == "f32") return DType::f32;
    if (s == "f64") return DType::f64;
    fail(function, "dtype '", s, "' is unknown, expected 'f32' or 'f64'");
}

py::dict fingerprint() {
    const CpuInfo& c = cpu_info();
    py::dict d;
    d["vendor"] = c.vendor;
    d["family"] = c.family;
    d["model"] = c.model;
    d["stepping"] = c.stepping;
    d["brand"] = c.brand;
    d["l1"] = c.l1;
    d["l2"] = c.l2;
    d["l3"] = c.l3;
    d["isa_features"] = c.features;
    return d;
}

py::list names(const std::vector<const Isa*>& isas) {
    py::list l;
    for (const Isa* i : isas) l.append(i->name);
    return l;
}

py::dict runtime_info() {
    py::dict d;
    d["version"] = NPCONV_VERSION;
    d["isa"] = current_isa().name;
    d["levels"] = names(available_isas());
    d["threads"] = current_threads();
    d["affinity"] = affinity_cpus();
    const double quota = cgroup_quota();
    d["cgroup_quota"] = quota > 0 ? py::object(py::float_(quota)) : py::object(py::none());
    d["threading"] = threading_backend();
#if defined(__clang__)
    d["compiler"] = "clang " __clang_version__;
#else
    d["compiler"] = "gcc " __VERSION__;
#endif
    d["reproducible"] = reproducible();
    return d;
}

}  // namespace

void register_machine(py::module_& m) {
    m.def("isa", [] { return current_isa().name; });
    m.def("isa_levels", [] { return names(available_isas()); });
    m.def("all_isa_levels", [] {
        std::vector<const Isa*> all;
        for (const Isa& i : all_isas()) all.push_back(&i);
        return names(all);
    });
    m.def("fingerprint", &fingerprint);
    m.def("runtime_info", &runtime_info);
    m.def("machine_constants", &machine_constants);
    m.def("set_machine_constants", &set_machine_constants, py::arg("constants"), py::pos_only());
    m.def("measure_machine_constants", [](double seconds) {
        positive(seconds, "measure_machine_constants", "seconds");
        const py::gil_scoped_release released;
        return measure_machine_constants(seconds);
    }, py::arg("seconds"), py::pos_only());
    m.def("peak_flops", [](const std::string& dtype, const py::object& threads, double seconds) {
        const DType t = parse_dtype(dtype, "peak_flops");
        const int n = thread_count(threads, "peak_flops");
        positive(seconds, "peak_flops", "seconds");
        const py::gil_scoped_release released;
        return measure_peak_flops(t, n, seconds);
    }, py::arg("dtype"), py::arg("threads"), py::arg("seconds"), py::pos_only());
    m.def("bandwidth", [](const py::object& threads, double seconds, double bytes) {
        const int n = thread_count(threads, "bandwidth");
        positive(seconds, "bandwidth", "seconds");
        if (!(positive(bytes, "bandwidth", "bytes") < 1e12)) fail("bandwidth", "bytes must be less than 1e12, got ", bytes);
        const py::gil_scoped_release released;
        return measure_bandwidth(n, seconds, static_cast<std::size_t>(bytes));
    }, py::arg("threads"), py::arg("seconds"), py::arg("bytes"), py::pos_only());
}

}  // namespace npconv::bindings
