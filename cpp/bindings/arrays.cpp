#include "arrays.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/request.hpp"

namespace npconv::bindings {
namespace {

constexpr int float32_number = 11, float64_number = 12, bool_number = 0;  // NumPy's type numbers

std::string text(const py::handle& object) { return py::str(object); }

bool native(const py::dtype& t) { return t.byteorder() == '=' || t.byteorder() == '|'; }

std::optional<DType> supported(const py::dtype& t) {
    const int number = t.num();
    if (number == float32_number) return DType::f32;
    if (number == float64_number) return DType::f64;
    return std::nullopt;
}

py::object numpy(const char* name) { return py::module_::import("numpy").attr(name); }

}  // namespace

Shape shape_of(const py::array& a) {
    Shape s(static_cast<std::size_t>(a.ndim()));
    for (py::ssize_t i = 0; i < a.ndim(); ++i) s[static_cast<std::size_t>(i)] = a.shape(i);
    return s;
}

bool has_shape(const py::array& a, const Shape& shape) {
    return static_cast<std::size_t>(a.ndim()) == shape.size() && std::equal(shape.begin(), shape.end(), a.shape());
}

py::tuple shape_tuple(const Shape& shape) {
    py::tuple t(shape.size());
    for (std::size_t i = 0; i < shape.size(); ++i) t[i] = shape[i];
    return t;
}

py::array as_array(py::handle object, const std::string& function, const char* argument) {
    py::array a = no_array();
    if (py::isinstance<py::array>(object)) {
        // Only subclasses can be masked.
        if (!py::type::of(object).is(numpy_array_type())) {
            if (py::isinstance(object, numpy("ma").attr("MaskedArray")))
                throw py::type_error(function + ": " + argument + " is a masked array, whose mask would be ignored; use .filled()");
        }
        a = py::reinterpret_borrow<py::array>(object);
    } else {
        a = py::array(numpy("asarray")(object));
    }
    if (a.dtype().num() == bool_number)
        throw py::type_error(function + ": " + argument + " has dtype bool, expected float32 or float64");
    return a;
}

py::handle numpy_array_type() {
    static const py::handle type = numpy("ndarray").release();
    return type;
}

py::dtype numpy_dtype(DType t) { return t == DType::f32 ? py::dtype::of<float>() : py::dtype::of<double>(); }

bool is_native(const py::dtype& type, DType t) { return supported(type) == t && native(type); }

DType result_dtype(const std::vector<py::dtype>& types, py::handle wanted, const std::string& function) {
    if (wanted.is_none()) {
        const std::optional<DType> first = supported(types.front());
        const bool same = std::all_of(types.begin(), types.end(), [&](const py::dtype& t) { return supported(t) == first; });
        if (first && same) return *first;
        py::list all;
        for (const py::dtype& t : types) all.append(t);
        const py::dtype promoted = py::reinterpret_borrow<py::dtype>(numpy("result_type")(*all));
        if (const auto t = supported(promoted)) return *t;
        throw py::type_error(function + ": the arguments promote to dtype " + text(promoted) + ", expected float32 or float64");
    }
    const py::dtype type = py::reinterpret_borrow<py::dtype>(numpy("dtype")(wanted));
    const auto t = supported(type);
    if (!t || !native(type)) throw py::type_error(function + ": dtype is " + text(type) + ", expected float32 or float64");
    for (const py::dtype& from : types)
        if (!py::cast<bool>(numpy("can_cast")(from, type, "same_kind")))
            throw py::type_error(function + ": an argument of dtype " + text(from) + " can't be cast to dtype " + text(type) +
                                 " by 'same_kind'");
    return *t;
}

py::array usable(const py::array& a, DType t, const std::string& function, const char* argument) {
    const py::dtype type = a.dtype();
    const auto item = static_cast<py::ssize_t>(item_size(t));
    bool whole = true;
    for (py::ssize_t i = 0; i < a.ndim(); ++i) whole = whole && (a.shape(i) <= 1 || a.strides(i) % item == 0);
    const bool aligned = (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
    if (is_native(type, t) && aligned && whole) return a;
    if (!py::cast<bool>(numpy("can_cast")(type, numpy_dtype(t), "same_kind")))
        throw py::type_error(function + ": " + argument + " of dtype " + text(type) + " can't be cast to " + text(numpy_dtype(t)) +
                             " by 'same_kind'");
    if (verbose())
        log(function + ": " + argument + " " + shape_text(shape_of(a)) + " of dtype " + text(type) + " is copied to native, aligned " +
            text(numpy_dtype(t)));
    py::dict options;
    options["dtype"] = numpy_dtype(t);
    options["copy"] = true;
    options["order"] = "K";
    return py::array(numpy("array")(a, **options));
}

AxisOrder activation_order(int nd, bool batched, bool channels_last) {
    AxisOrder o;
    int next = 0;
    if (batched) o.axis[0] = next++;
    if (!channels_last) o.axis[1] = next++;
    for (int i = 0; i < nd; ++i) o.axis[5 - nd + i] = next++;
    if (channels_last) o.axis[1] = next;
    return o;
}

Tensor view(const py::array& a, DType t, const AxisOrder& order) {
    Tensor v;
    v.data = const_cast<void*>(a.data());
    v.dtype = t;
    for (int i = 0; i < 5; ++i) {
        const int from = order.axis[i];
        v.size[i] = from < 0 ? 1 : a.shape(from);
        v.stride[i] = from < 0 ? 0 : a.strides(from) / static_cast<std::int64_t>(item_size(t));
    }
    return v;
}

Order classify(Tensor& t) {
    const auto matches = [&](const std::int64_t (&expected)[5]) {
        for (int i = 1; i < 5; ++i)
            if (expected[i] != INT64_MIN && t.size[i] > 1 && t.stride[i] != expected[i]) return false;
        return true;
    };
    const auto set = [&](const std::int64_t (&expected)[5]) {
        for (int i = 1; i < 5; ++i)
            if (t.size[i] == 1 && expected[i] != INT64_MIN) t.stride[i] = expected[i];
    };
    const std::int64_t width = t.size[4], height = t.size[3];
    const std::int64_t nchw[5] = {INT64_MIN, INT64_MIN, height * width, width, 1};
    if (matches(nchw)) {
        set(nchw);
        return Order::nchw;
    }
    // The pixel stride is that of W, or what it would be if W has one element only.
    std::int64_t pixel = t.size[1];
    if (width > 1)
        pixel = t.stride[4];
    else if (height > 1)
        pixel = t.stride[3];
    else if (t.size[2] > 1)
        pixel = t.stride[2];
    const std::int64_t nhwc[5] = {INT64_MIN, 1, pixel * width * height, pixel * width, pixel};
    if (pixel >= t.size[1] && matches(nhwc)) {
        set(nhwc);
        return Order::nhwc;
    }
    return Order::any;
}

// NumPy's own memory begins 16 bytes behind a line, so that every other vector that is stored crosses one: channels-last
// outputs of few terms then take up to twice as long. Hence a part of a longer array.
py::array empty(const Shape& shape, DType t) {
    constexpr std::intptr_t line = 64;
    const py::dtype type = numpy_dtype(t);
    py::ssize_t bytes = type.itemsize();
    for (const std::int64_t n : shape) bytes *= n;
    const py::array whole(py::dtype::of<std::uint8_t>(), std::vector<py::ssize_t>{bytes + line});
    const auto begin = reinterpret_cast<std::intptr_t>(whole.data());
    return py::array(type, std::vector<py::ssize_t>(shape.begin(), shape.end()), reinterpret_cast<void*>((begin + line - 1) / line * line), whole);
}

Extent::Extent(const py::array& a) : begin(reinterpret_cast<std::intptr_t>(a.data())), end(begin + a.itemsize()) {
    const py::ssize_t *const shape = a.shape(), *const strides = a.strides();
    for (py::ssize_t i = 0, n = a.ndim(); i < n; ++i) {
        if (shape[i] == 0) {
            end = begin;
            return;
        }
        const std::intptr_t span = (shape[i] - 1) * strides[i];
        (span < 0 ? begin : end) += span;
    }
}

bool same_memory(const py::array& a, const py::array& b) {
    if (a.data() != b.data() || a.ndim() != b.ndim() || !a.dtype().is(b.dtype())) return false;
    for (py::ssize_t i = 0; i < a.ndim(); ++i)
        if (a.shape(i) != b.shape(i) || (a.shape(i) > 1 && a.strides(i) != b.strides(i))) return false;
    return true;
}

// Axes sorted by stride must each step over all that the smaller ones cover. Exotic interleaved arrays that fail this
// without overlapping are refused too.
bool overlaps_itself(const py::array& a) {
    if (a.flags() & py::array::c_style) return false;
    std::vector<std::pair<std::int64_t, std::int64_t>> axes;
    for (py::ssize_t i = 0; i < a.ndim(); ++i) {
        if (a.shape(i) == 0) return false;
        if (a.shape(i) > 1) axes.emplace_back(std::abs(a.strides(i)), a.shape(i));
    }
    std::sort(axes.begin(), axes.end());
    std::int64_t covered = a.itemsize();
    for (const auto& [stride, size] : axes) {
        if (stride < covered) return true;
        covered += stride * (size - 1);
    }
    return false;
}

bool verbose() {
    static const bool on = [] {
        const char* v = std::getenv("NPCONV_VERBOSE");
        return v && *v && std::strcmp(v, "0") != 0;
    }();
    return on;
}

void log(const std::string& line) { std::fprintf(stderr, "npconv: %s\n", line.c_str()); }

}  // namespace npconv::bindings
