#include "parse.hpp"

#include <cmath>
#include <utility>

#include "core/check.hpp"
#include "threading/cpu_count.hpp"

namespace npconv::bindings {
namespace {

thread_local int thread_limit = 0;

std::string shown(py::handle h) { return py::repr(h); }
std::string type_name(py::handle h) { return py::str(py::type::of(h).attr("__name__")); }

[[noreturn]] void type_fail(const std::string& function, const char* argument, const char* expected, py::handle got) {
    throw py::type_error(function + ": " + argument + " must be " + expected + ", got " + shown(got) + " (" + type_name(got) + ")");
}

bool is_sequence(py::handle h) {
    return PyTuple_Check(h.ptr()) || PyList_Check(h.ptr()) ||
           (py::isinstance<py::array>(h) && py::reinterpret_borrow<py::array>(h).ndim() > 0);
}

bool is_string(py::handle h) { return PyUnicode_Check(h.ptr()); }

// A sequence of one element stands for all axes.
py::tuple per_axis(py::handle h, int nd, const std::string& function, const char* argument) {
    const py::tuple t = py::tuple(py::reinterpret_borrow<py::object>(h));
    const int n = static_cast<int>(t.size());
    if (n == nd) return t;
    if (n != 1)
        fail(function, argument, " has ", n, " elements, expected a single value or ", nd, ": ", shown(h));
    py::tuple all(static_cast<std::size_t>(nd));
    for (int i = 0; i < nd; ++i) all[static_cast<std::size_t>(i)] = t[0];
    return all;
}

PaddingRequest padding_of_string(const std::string& s, const std::string& function) {
    PaddingRequest p;
    if (s == "valid") return p;
    if (s == "same" || s == "same_upper")
        p.kind = PaddingRequest::same_upper;
    else if (s == "same_lower")
        p.kind = PaddingRequest::same_lower;
    else if (s == "full")
        p.kind = PaddingRequest::full;
    else if (s == "causal")
        p.kind = PaddingRequest::causal;
    else
        fail(function, "padding '", s, "' is unknown, expected 'valid', 'same', 'same_upper', 'same_lower', 'full', 'causal' or amounts");
    return p;
}

PaddingRequest padding_of_axis(py::handle h, const std::string& function) {
    if (is_string(h)) return padding_of_string(py::cast<std::string>(h), function);
    PaddingRequest p;
    if (is_sequence(h)) {
        const py::tuple pair = py::tuple(py::reinterpret_borrow<py::object>(h));
        if (pair.size() != 2) fail(function, "padding of an axis must be one amount or a pair (before, after), got ", shown(h));
        p.begin = parse_int(pair[0], function, "padding");
        p.end = parse_int(pair[1], function, "padding");
        return p;
    }
    p.begin = p.end = parse_int(h, function, "padding");
    if (p.begin < 0)
        fail(function, "padding must not be negative, got ", p.begin, "; pairs such as ((", p.begin, ", 0), ...) may crop");
    return p;
}

PadMode mode_of(py::handle h, const std::string& function) {
    const std::string s = parse_string(h, function, "padding_mode");
    if (s == "zeros" || s == "constant") return PadMode::constant;
    if (s == "reflect") return PadMode::reflect;
    if (s == "symmetric") return PadMode::symmetric;
    if (s == "replicate" || s == "edge" || s == "nearest") return PadMode::replicate;
    if (s == "circular" || s == "wrap") return PadMode::circular;
    fail(function, "padding_mode '", s, "' is unknown, expected 'zeros' (or 'constant'), 'reflect', 'symmetric', 'replicate' "
         "(or 'edge', 'nearest') or 'circular' (or 'wrap')");
}

}  // namespace

std::int64_t parse_int(py::handle h, const std::string& function, const char* argument) {
    if (PyBool_Check(h.ptr()) || !PyIndex_Check(h.ptr()) || is_sequence(h)) type_fail(function, argument, "an integer", h);
    const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(h.ptr()));
    if (!index) throw py::error_already_set();
    int overflow = 0;
    const long long v = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow) fail(function, argument, " ", shown(h), " does not fit into 64 bits");
    return v;
}

bool parse_bool(py::handle h, const std::string& function, const char* argument) {
    if (PyBool_Check(h.ptr())) return h.ptr() == Py_True;
    if (type_name(h) == "bool" || type_name(h) == "bool_") return PyObject_IsTrue(h.ptr()) == 1;  // NumPy's
    type_fail(function, argument, "True or False", h);
}

double parse_real(py::handle h, const std::string& function, const char* argument) {
    if (PyBool_Check(h.ptr()) || is_string(h) || PyComplex_Check(h.ptr())) type_fail(function, argument, "a real number", h);
    const double v = PyFloat_AsDouble(h.ptr());
    if (v == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        type_fail(function, argument, "a real number", h);
    }
    return v;
}

std::string parse_string(py::handle h, const std::string& function, const char* argument) {
    if (!is_string(h)) type_fail(function, argument, "a string", h);
    return py::cast<std::string>(h);
}

Shape parse_shape(py::handle h, const std::string& function, const char* argument) {
    if (!is_sequence(h)) type_fail(function, argument, "a sequence of integers", h);
    Shape shape;
    for (const py::handle& v : py::tuple(py::reinterpret_borrow<py::object>(h))) {
        shape.push_back(parse_int(v, function, argument));
        if (shape.back() < 0) fail(function, argument, " must not have negative sizes, got ", shown(h));
    }
    return shape;
}

void parse_sizes(py::handle h, int nd, const std::string& function, const char* argument,
                 const std::function<void(int, std::int64_t)>& set) {
    if (!is_sequence(h)) {
        const std::int64_t v = parse_int(h, function, argument);
        for (int i = 0; i < nd; ++i) set(i, v);
        return;
    }
    const py::tuple t = per_axis(h, nd, function, argument);
    for (int i = 0; i < nd; ++i) set(i, parse_int(t[static_cast<std::size_t>(i)], function, argument));
}

void parse_padding(py::handle padding, py::handle mode, ConvRequest& r) {
    const std::string& f = r.function;
    if (is_string(padding)) {
        const PaddingRequest p = padding_of_string(py::cast<std::string>(padding), f);
        if (p.kind == PaddingRequest::causal && r.nd > 1)
            fail(f, "padding 'causal' needs to know its axis, expected one value for each of ", r.nd, " axes, such as ('causal', ...)");
        for (int i = 0; i < r.nd; ++i) r.dim[i].padding = p;
    } else if (is_sequence(padding)) {
        if (static_cast<int>(py::len(padding)) == 2 * r.nd && r.nd > 1)
            fail(f, "padding has ", 2 * r.nd, " elements; write pairs ((before, after), ...), one for each of ", r.nd, " axes: ", shown(padding));
        const py::tuple t = per_axis(padding, r.nd, f, "padding");
        for (int i = 0; i < r.nd; ++i) r.dim[i].padding = padding_of_axis(t[static_cast<std::size_t>(i)], f);
    } else {
        const PaddingRequest p = padding_of_axis(padding, f);
        for (int i = 0; i < r.nd; ++i) r.dim[i].padding = p;
    }
    if (is_string(mode)) {
        const PadMode m = mode_of(mode, f);
        for (int i = 0; i < r.nd; ++i) r.dim[i].mode = m;
    } else {
        if (!is_sequence(mode)) type_fail(f, "padding_mode", "a string or one for each axis", mode);
        const py::tuple t = per_axis(mode, r.nd, f, "padding_mode");
        for (int i = 0; i < r.nd; ++i) r.dim[i].mode = mode_of(t[static_cast<std::size_t>(i)], f);
    }
}

ActivationValue parse_activation(py::handle h, const std::string& function) {
    ActivationValue a;
    if (h.is_none()) return a;
    py::tuple parts = is_string(h) ? py::make_tuple(h) : py::tuple();
    if (!is_string(h)) {
        if (!is_sequence(h) || py::len(h) == 0 || !is_string(py::object(h[py::int_(0)])))
            type_fail(function, "activation", "None, a name or a tuple (name, *parameters)", h);
        parts = py::tuple(py::reinterpret_borrow<py::object>(h));
    }
    const std::string s = py::cast<std::string>(parts[0]);
    const std::size_t given = parts.size() - 1;
    const auto expect = [&](std::size_t least, std::size_t most) {
        if (given < least || given > most)
            fail(function, "activation '", s, "' takes ", least, least == most ? "" : " to " + std::to_string(most), " parameters, got ", given);
    };
    const auto real = [&](std::size_t i) { return parse_real(parts[i + 1], function, "activation parameter"); };
    static const struct {
        const char* name;
        Activation kind;
    } plain[] = {{"none", Activation::none}, {"relu", Activation::relu}, {"silu", Activation::silu}, {"sigmoid", Activation::sigmoid},
                 {"tanh", Activation::tanh}, {"hardswish", Activation::hardswish}};
    for (const auto& p : plain)
        if (s == p.name) {
            expect(0, 0);
            a.kind = p.kind;
            return a;
        }
    if (s == "relu6") {
        expect(0, 0);
        a = {Activation::clip, {0, 6}};
    } else if (s == "clip") {
        expect(2, 2);
        a = {Activation::clip, {real(0), real(1)}};
        if (!(a.params[0] <= a.params[1])) fail(function, "activation 'clip' expects lo <= hi, got (", a.params[0], ", ", a.params[1], ")");
    } else if (s == "leaky_relu") {
        expect(0, 1);
        a = {Activation::leaky_relu, {given ? real(0) : 0.01, 0}};
    } else if (s == "gelu") {
        expect(0, 1);
        const std::string kind = given ? parse_string(parts[1], function, "activation parameter") : "none";
        if (kind != "none" && kind != "tanh") fail(function, "activation 'gelu' takes 'none' or 'tanh', got '", kind, "'");
        a.kind = kind == "none" ? Activation::gelu : Activation::gelu_tanh;
    } else {
        fail(function, "activation '", s, "' is unknown, expected one of none, relu, relu6, leaky_relu, clip, silu, sigmoid, tanh, hardswish, gelu");
    }
    return a;
}

bool parse_channels_last(py::handle h, int nd, const std::string& function) {
    const std::string s = parse_string(h, function, "data_format");
    static const char* const first[] = {"NCW", "NCHW", "NCDHW"};
    static const char* const last[] = {"NWC", "NHWC", "NDHWC"};
    if (s == "channels_first" || s == first[nd - 1]) return false;
    if (s == "channels_last" || s == last[nd - 1]) return true;
    fail(function, "data_format '", s, "' is unknown, expected 'channels_first' (or '", first[nd - 1], "') or 'channels_last' (or '",
         last[nd - 1], "')");
}

AxisOrder parse_weight_format(py::handle h, int nd, const std::string& function) {
    static const char* const standard[] = {"OIW", "OIHW", "OIDHW"};
    const std::string expected = standard[nd - 1];
    const std::string s = h.is_none() ? expected : parse_string(h, function, "weight_format");
    AxisOrder o;
    const std::string letters = "OIDHW";
    bool good = s.size() == expected.size();
    for (std::size_t i = 0; good && i < s.size(); ++i) {
        const std::size_t at = letters.find(s[i]);
        good = at != std::string::npos && expected.find(s[i]) != std::string::npos && o.axis[at] < 0;
        if (good) o.axis[at] = static_cast<int>(i);
    }
    if (!good) fail(function, "weight_format '", s, "' is unknown, expected None or the letters of '", expected, "' in the array's order");
    return o;
}

Accuracy parse_accuracy(py::handle h, const std::string& function) {
    const std::string s = parse_string(h, function, "accuracy");
    if (s == "strict") return Accuracy::strict;
    if (s == "standard") return Accuracy::standard;
    if (s == "fast") return Accuracy::fast;
    fail(function, "accuracy '", s, "' is unknown, expected 'strict', 'standard' or 'fast'");
}

const Algorithm* parse_algorithm(py::handle h, const std::string& function) {
    const std::string s = parse_string(h, function, "algorithm");
    if (s == "auto") return nullptr;
    if (const Algorithm* a = find_algorithm(s)) return a;
    std::string names = "'auto'";
    for (const Algorithm* a : algorithms()) names += std::string(", '") + a->name + "'";
    fail(function, "algorithm '", s, "' is unknown, expected one of ", names);
}

int parse_threads(py::handle h, const std::string& function) {
    if (h.is_none()) return current_threads();
    return checked_threads(parse_int(h, function, "num_threads"), function);
}

std::size_t parse_limit(py::handle h, const std::string& function) {
    if (h.is_none()) return 0;
    const std::int64_t n = parse_int(h, function, "workspace_limit");
    if (n < 0) fail(function, "workspace_limit must not be negative, got ", n);
    return n == 0 ? 1 : static_cast<std::size_t>(n);  // no byte at all; 0 stands for "no limit" inside
}

const char* rigor_name(Rigor r) { return r == Rigor::estimate ? "estimate" : r == Rigor::measure ? "measure" : "exhaustive"; }

Rigor parse_rigor(const std::string& s, const char* function, bool estimate_allowed) {
    if (s == "measure") return Rigor::measure;
    if (s == "exhaustive") return Rigor::exhaustive;
    if (estimate_allowed && s == "estimate") return Rigor::estimate;
    fail(function, "mode '", s, "' is unknown, expected ", estimate_allowed ? "'estimate', " : "", "'measure' or 'exhaustive'");
}

int checked_threads(std::int64_t n, const std::string& function, const char* argument) {
    if (n < 1 || n > 4096) fail(function, argument, " must be between 1 and 4096, got ", n);
    return static_cast<int>(n);
}

int current_threads() { return thread_limit > 0 ? thread_limit : default_threads(); }
int exchange_thread_limit(int n) { return std::exchange(thread_limit, n); }

}  // namespace npconv::bindings
