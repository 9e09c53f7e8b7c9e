// What a program sets for all its calls: threads, memory, tuning, reproducibility.
#include "core/check.hpp"
#include "core/workspace.hpp"
#include "dispatch/choose.hpp"
#include "dispatch/plan_cache.hpp"
#include "module.hpp"
#include "parse.hpp"
#include "threading/cpu_count.hpp"

namespace npconv::bindings {
namespace {

// Functions of one signature share pybind11's templates, which are most of an object file.
using Get = py::object (*)();
using Set = py::object (*)(const py::object&);

// The time limit belongs to the Python loop; it is kept here beside the mode so that both are set at once.
double time_limit = 0;  // seconds; 0 = none. Guarded by the GIL

int thread_count(const py::object& n, const char* function) {
    return n.is_none() ? 0 : checked_threads(parse_int(n, function, "n"), function, "n");
}

void register_threads(py::module_& m) {
    m.def("set_num_threads", Set([](const py::object& n) -> py::object {
        set_default_threads(thread_count(n, "set_num_threads"));
        return py::none();
    }), py::arg("n"), py::pos_only());
    m.def("get_num_threads", Get([]() -> py::object { return py::int_(current_threads()); }));
    m.def("set_thread_num_threads", Set([](const py::object& n) -> py::object {
        const int before = exchange_thread_limit(thread_count(n, "threads"));
        return before ? py::object(py::int_(before)) : py::object(py::none());
    }), py::arg("n"), py::pos_only());
}

void register_memory(py::module_& m) {
    m.def("set_workspace_limit", Set([](const py::object& bytes) -> py::object {
        const std::int64_t v = parse_int(bytes, "set_workspace_limit", "bytes");
        if (v < 0) fail("set_workspace_limit", "bytes must not be negative, got ", v);
        set_workspace_limit(static_cast<std::size_t>(v));
        return py::none();
    }), py::arg("bytes"), py::pos_only());
    m.def("get_workspace_limit", Get([]() -> py::object { return py::int_(workspace_limit()); }));
    m.def("memory_info", Get([]() -> py::object {
        const WorkspaceInfo w = workspace_info();
        py::dict d;
        d["workspace_leased"] = w.leased;
        d["workspace_idle"] = w.idle;
        d["workspace_peak"] = w.peak;
        d["workspace_limit"] = w.limit;
        return d;
    }));
    m.def("clear_caches", Get([]() -> py::object {
        clear_plan_cache();
        trim_workspaces();
        return py::none();
    }));
    m.def("plan_cache_info", Get([]() -> py::object {
        const PlanCacheInfo p = plan_cache_info();
        py::dict d;
        d["hits"] = p.hits;
        d["misses"] = p.misses;
        d["size"] = p.size;
        d["capacity"] = p.capacity;
        return d;
    }));
}

void register_modes(py::module_& m) {
    m.def("set_tuning", [](const std::string& mode, const py::object& limit) {
        const Rigor r = parse_rigor(mode, "tuning", true);
        const double seconds = limit.is_none() ? 0 : parse_real(limit, "tuning", "time_limit");
        if (!limit.is_none() && !(seconds > 0)) fail("tuning", "time_limit must be positive, got ", seconds);
        set_tuning(r);
        time_limit = seconds;
    }, py::arg("mode"), py::arg("time_limit"), py::pos_only());
    m.def("get_tuning", Get([]() -> py::object {
        return py::make_tuple(rigor_name(tuning()), time_limit > 0 ? py::object(py::float_(time_limit)) : py::object(py::none()));
    }));
    m.def("set_reproducible", Set([](const py::object& on) -> py::object {
        set_reproducible(parse_bool(on, "set_reproducible", "on"));
        return py::none();
    }), py::arg("on"), py::pos_only());
    m.def("get_reproducible", Get([]() -> py::object { return py::bool_(reproducible()); }));
}

}  // namespace

void register_runtime(py::module_& m) {
    register_threads(m);
    register_memory(m);
    register_modes(m);
}

}  // namespace npconv::bindings
