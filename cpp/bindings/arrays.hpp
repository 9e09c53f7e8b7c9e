// From Python objects to views, and back. Everything that NumPy allows in an array and kernels don't ends here.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "npconv/conv_desc.hpp"
#include "npconv/tensor.hpp"

namespace npconv::bindings {

namespace py = pybind11;

using Shape = std::vector<std::int64_t>;
Shape shape_of(const py::array&);
bool has_shape(const py::array&, const Shape&);
py::tuple shape_tuple(const Shape&);

// A null handle. pybind11's own default is a new array of no elements, and costs as much as one.
inline py::array no_array() { return py::reinterpret_steal<py::array>(py::handle()); }

// np.asarray; TypeError for masked arrays, whose mask would be ignored, and for booleans.
py::array as_array(py::handle object, const std::string& function, const char* argument);

// What NumPy promotes the given types to, or `wanted` (a dtype or None) if all may be cast to it ('same_kind').
// TypeError unless the result is float32 or float64.
DType result_dtype(const std::vector<py::dtype>& types, py::handle wanted, const std::string& function);
py::dtype numpy_dtype(DType);
bool is_native(const py::dtype&, DType);  // this type, in native byte order
py::handle numpy_array_type();  // numpy.ndarray

// The array itself if it has this type in native byte order, aligned, with strides in whole elements; else a copy.
py::array usable(const py::array&, DType, const std::string& function, const char* argument);

// Which axis of the user's array is which axis of a Tensor; -1 where the user's array has none (size 1 then).
struct AxisOrder {
    int axis[5] = {-1, -1, -1, -1, -1};
};
AxisOrder activation_order(int nd, bool batched, bool channels_last);
Tensor view(const py::array&, DType, const AxisOrder&);

// Which memory order this is; sets the strides of axes of size 1 to what that order expects.
Order classify(Tensor&);

py::array empty(const Shape&, DType);  // begins on a cache line

// The bytes that an array touches, as [begin, end).
struct Extent {
    std::intptr_t begin, end;
    explicit Extent(const py::array&);
    bool overlaps(const Extent& other) const { return begin < end && other.begin < other.end && begin < other.end && other.begin < end; }
};
bool same_memory(const py::array&, const py::array&);  // same start, shape, strides and type
bool overlaps_itself(const py::array&);

bool verbose();  // NPCONV_VERBOSE=1
void log(const std::string& line);

}  // namespace npconv::bindings
