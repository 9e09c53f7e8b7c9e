#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>

#include "core/check.hpp"
#include "dispatch/choose.hpp"
#include "module.hpp"
#include "parse.hpp"

// Descriptors, what an algorithm says to one, and the candidates of the tuner.
namespace npconv::bindings {
namespace {

py::tuple sizes(const ConvDesc& d, std::int64_t Axis::*field) { return py::make_tuple(d.d().*field, d.h().*field, d.w().*field); }

py::dict parse_descriptor(const std::string& text) {
    const ConvDesc d = ConvDesc::parse(text);
    py::dict r;
    r["descriptor"] = d.text();
    r["direction"] = name(d.direction);
    r["dtype"] = dtype_name(d.src);
    r["mb"] = d.mb;
    r["g"] = d.g;
    r["ic"] = d.ic;
    r["oc"] = d.oc;
    r["input"] = sizes(d, &Axis::in);
    r["output"] = sizes(d, &Axis::out);
    r["kernel"] = sizes(d, &Axis::kernel);
    r["stride"] = sizes(d, &Axis::stride);
    r["dilation"] = sizes(d, &Axis::dilation);
    r["pad_begin"] = sizes(d, &Axis::pad_begin);
    r["pad_end"] = sizes(d, &Axis::pad_end);
    r["padding_mode"] = py::make_tuple(name(d.d().mode), name(d.h().mode), name(d.w().mode));
    r["src_order"] = name(d.src_order);
    r["dst_order"] = name(d.dst_order);
    r["accuracy"] = name(d.accuracy);
    r["weights"] = d.weights == Weights::constant ? "const" : "fresh";
    r["epilogue"] = epilogue_text(d.epilogue);
    r["macs"] = d.macs();
    r["flops"] = d.flops();
    const double elements = double(d.mb) * (double(d.ic) * double(d.in_pixels()) + double(d.oc) * double(d.out_pixels())) +
                            double(d.oc) * double(d.icg()) * double(d.taps());
    r["bytes"] = elements * double(item_size(d.src));
    return r;
}

ChoiceOptions options(int threads, const char* function) {
    ChoiceOptions o;
    o.threads = checked_threads(threads, function);
    o.reproducible = reproducible();
    o.function = function;
    return o;
}

py::list explain_rows(const std::string& text, int threads) {
    const ConvDesc d = ConvDesc::parse(text);
    py::list rows;
    for (const Explanation& e : explain(d, current_isa(), options(threads, "explain"))) {
        py::dict row;
        const bool accepts = e.refusal.empty();
        row["algorithm"] = e.algorithm->name;
        row["refusal"] = accepts ? py::object(py::none()) : py::object(py::str(e.refusal));
        row["parameters"] = accepts ? py::object(py::str(params_text(*e.algorithm, e.estimate.params))) : py::object(py::none());
        row["estimate"] = accepts && e.estimate.seconds > 0 ? py::object(py::float_(e.estimate.seconds)) : py::object(py::none());
        row["measured"] = e.measured > 0 ? py::object(py::float_(e.measured)) : py::object(py::none());
        row["picked"] = e.picked;
        row["source"] = e.source;
        rows.append(row);
    }
    return rows;
}

std::vector<std::tuple<std::string, std::string, double>> candidate_rows(const std::string& text, int threads, const std::string& rigor) {
    const ConvDesc d = ConvDesc::parse(text);
    const Isa& isa = current_isa();
    checked_threads(threads, "candidates");
    const Rigor r = parse_rigor(rigor, "candidates", false);
    std::vector<std::tuple<std::string, std::string, double>> rows;
    for (const Algorithm* a : algorithms()) {
        if (std::string(a->name) == "reference" || d.empty() || !a->refuse(d, isa).empty()) continue;
        for (const Params& p : a->candidates(d, isa, threads, r))
            rows.emplace_back(a->name, params_text(*a, p), a->estimate(d, isa, p, threads, current_machine()));
    }
    std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return std::get<2>(a) < std::get<2>(b); });
    return rows;
}

}  // namespace

void register_tuner(py::module_& m) {
    m.def("parse_descriptor", &parse_descriptor, py::arg("text"), py::pos_only());
    m.def("explain", &explain_rows, py::arg("descriptor"), py::arg("num_threads"), py::pos_only());
    m.def("candidates", &candidate_rows, py::arg("descriptor"), py::arg("num_threads"), py::arg("rigor"), py::pos_only());
    m.def("algorithms", [] {
        py::list l;
        for (const Algorithm* a : algorithms()) l.append(a->name);
        return l;
    });
    m.def("algorithm_revision", [](const std::string& name) {
        const Algorithm* a = find_algorithm(name);
        if (!a) fail("algorithm_revision", "algorithm '", name, "' is unknown");
        return a->revision;
    }, py::arg("name"), py::pos_only());
}

}  // namespace npconv::bindings
