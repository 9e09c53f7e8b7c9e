// One convolution with all its arguments parsed: what conv(), Plan and describe() share.
#pragma once

#include "arrays.hpp"
#include "dispatch/plan_cache.hpp"
#include "npconv/plan.hpp"
#include "parse.hpp"

namespace npconv::bindings {

// The arguments as Python gave them. Order and meaning: python/npconv/functional.py.
struct Arguments {
    py::handle weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format, weight_format,
        flip, scale, activation, residual_after, dtype, acc_dtype, algorithm, accuracy, num_threads, workspace_limit;
};

struct Problem {
    std::string function;
    int nd = 2;
    bool batched = true, channels_last = false;
    DType dtype = DType::f32;
    ConvDesc desc;
    ActivationValue activation;
    double padding_value = 0;
    ChoiceOptions options;
    bool explicit_threads = false;

    Shape x_shape, output_shape;
    py::array weight = no_array(), bias = no_array(), scale = no_array();  // of `dtype`, native; null where unused
    bool owns_weights = false;      // and bias and scale: they are copies, which no caller's array overlaps
    Tensor weight_view;             // O, I, D, H, W; flipped if asked for

    AxisOrder order() const { return activation_order(nd, batched, channels_last); }
};

// `x_type` is the dtype of x, or none for plans, whose x is what the weights promote to. `residual` says whether one
// will be added. src and dst orders are those of a C-contiguous array; callers correct them.
Problem make_problem(int nd, const Shape& x_shape, std::optional<py::dtype> x_type, const Arguments&, bool residual);

// The arrays of one call, checked. `args` points into them, so they must outlive the execution.
struct CallArrays {
    py::array x = no_array(), residual = no_array(), out = no_array();
    py::array computed = no_array();  // `out` itself, or a temporary to be copied to it
    ConvArgs args;       // src, dst, residual, values; not packed, threads, workspace
    Order src_order = Order::nchw, dst_order = Order::nchw;
};
CallArrays prepare_call(const Problem&, py::handle x, py::handle residual, py::handle out);
py::array finish_call(const CallArrays&);

void log_plan(const Problem&, const PlannedCall&);  // under NPCONV_VERBOSE

}  // namespace npconv::bindings
