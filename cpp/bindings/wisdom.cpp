// The table of wisdom as Python sees it, and the hooks through which the core calls Python.
#include <pybind11/stl.h>

#include <functional>

#include "dispatch/choose.hpp"
#include "module.hpp"
#include "parse.hpp"
#include "tuner/wisdom.hpp"

namespace npconv::bindings {
namespace {

py::dict entry_dict(const WisdomEntry& e) {
    py::dict d;
    d["descriptor"] = e.descriptor;
    d["isa"] = e.isa;
    d["threads"] = e.threads;
    d["algorithm"] = e.algorithm;
    d["revision"] = e.revision;
    d["parameters"] = e.parameters;
    d["seconds"] = e.seconds;
    d["rigor"] = rigor_name(e.rigor);
    d["time"] = e.time;
    return d;
}

// Throws on anything that isn't of the expected type; the caller counts that as a rejected entry.
WisdomEntry read_entry(const py::dict& d) {
    WisdomEntry e;
    e.descriptor = py::cast<std::string>(d["descriptor"]);
    e.isa = py::cast<std::string>(d["isa"]);
    e.threads = py::cast<int>(d["threads"]);
    e.algorithm = py::cast<std::string>(d["algorithm"]);
    e.revision = py::cast<int>(d["revision"]);
    e.parameters = py::cast<std::string>(d["parameters"]);
    e.seconds = py::cast<double>(d["seconds"]);
    e.rigor = parse_rigor(py::cast<std::string>(d["rigor"]), "wisdom", false);
    e.time = py::cast<double>(d["time"]);
    return e;
}

std::pair<int, int> wisdom_update(const py::sequence& rows) {
    std::vector<WisdomEntry> entries;
    int unreadable = 0;
    for (const py::handle& row : rows) {
        try {
            entries.push_back(read_entry(py::cast<py::dict>(row)));
        } catch (const std::exception&) {
            ++unreadable;
        }
    }
    const wisdom::Update u = wisdom::update(entries);
    return {u.accepted, u.rejected + unreadable};
}

void warn(const std::string& text) {
    if (PyErr_WarnEx(PyExc_RuntimeWarning, text.c_str(), 1) != 0) {
        // Warnings turned into errors must not turn a convolution into one.
        PyErr_WriteUnraisable(nullptr);
    }
}

// Whatever happens in a hook, the call that needed the plan goes on with what is known.
void guarded(const char* what, const std::function<void()>& call) {
    try {
        call();
    } catch (py::error_already_set& e) {
        if (e.matches(PyExc_KeyboardInterrupt)) throw;
        const std::string text = e.what();
        e.restore();
        PyErr_Clear();
        warn(std::string("npconv: ") + what + " failed: " + text);
    }
}

void set_wisdom_loader(const py::object& loader) {
    if (loader.is_none()) return wisdom::set_loader(nullptr);
    // Kept for the life of the process: it may be called while the interpreter winds down.
    PyObject* const kept = loader.inc_ref().ptr();
    wisdom::set_loader([kept] {
        const py::gil_scoped_acquire gil;
        guarded("loading the wisdom", [&] { py::reinterpret_borrow<py::object>(kept)(); });
    });
}

void set_tuner_hook(const py::object& tuner) {
    if (tuner.is_none()) return set_tuner(nullptr);
    PyObject* const kept = tuner.inc_ref().ptr();
    set_tuner([kept](const ConvDesc& d, int threads, Rigor r) {
        const py::gil_scoped_acquire gil;
        guarded("tuning", [&] { py::reinterpret_borrow<py::object>(kept)(d.text(), threads, rigor_name(r)); });
    });
}

}  // namespace

void register_wisdom(py::module_& m) {
    m.def("wisdom_entries", [] {
        py::list rows;
        for (const WisdomEntry& e : wisdom::entries()) rows.append(entry_dict(e));
        return rows;
    });
    m.def("wisdom_update", &wisdom_update, py::arg("entries"), py::pos_only());
    m.def("wisdom_clear", &wisdom::clear);
    m.def("wisdom_forget", [](const std::string& d) { return wisdom::forget(ConvDesc::parse(d).key()); }, py::arg("descriptor"), py::pos_only());
    m.def("wisdom_key", [](const std::string& d) { return ConvDesc::parse(d).key(); }, py::arg("descriptor"), py::pos_only());
    m.def("set_wisdom_loader", &set_wisdom_loader, py::arg("loader"), py::pos_only());
    m.def("set_tuner", &set_tuner_hook, py::arg("tuner"), py::pos_only());
}

}  // namespace npconv::bindings
