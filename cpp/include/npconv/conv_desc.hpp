// The validated problem: a plain value. Two equal descriptors get the same plan.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "npconv/epilogue.hpp"
#include "npconv/tensor.hpp"

namespace npconv {

enum class Direction : std::uint8_t { fwd, bwd_input, bwd_weight };
enum class PadMode : std::uint8_t { constant, reflect, symmetric, replicate, circular };
// Memory order of an activation tensor. nchw: W dense, H and D without gaps. nhwc: C dense, H and D without gaps.
// Batch strides are free, and so are channel strides (nchw) and pixel strides (nhwc). any: arbitrary strides.
enum class Order : std::uint8_t { nchw, nhwc, any };
enum class Accuracy : std::uint8_t { strict, standard, fast };
// Weights packed once (a plan or a layer owns them) or in every call.
enum class Weights : std::uint8_t { constant, fresh };

// One spatial axis. Dilation counts from 1; negative padding crops.
struct Axis {
    std::int64_t in = 1, out = 1, kernel = 1, stride = 1, dilation = 1, pad_begin = 0, pad_end = 0;
    PadMode mode = PadMode::constant;

    std::int64_t extent() const { return dilation * (kernel - 1) + 1; }  // what one window covers
    friend bool operator==(const Axis& a, const Axis& b);
};

struct ConvDesc {
    Direction direction = Direction::fwd;
    DType src = DType::f32, wei = DType::f32, dst = DType::f32, acc = DType::f32;
    std::int64_t mb = 1, g = 1, ic = 1, oc = 1;  // ic and oc are totals over all groups
    std::array<Axis, 3> axis;                    // depth, height, width; 1-D is 2-D with ih = kh = 1
    Order src_order = Order::nchw, dst_order = Order::nchw;
    Accuracy accuracy = Accuracy::standard;
    Weights weights = Weights::constant;
    Epilogue epilogue;

    const Axis& d() const { return axis[0]; }
    const Axis& h() const { return axis[1]; }
    const Axis& w() const { return axis[2]; }
    std::int64_t icg() const { return g ? ic / g : 0; }  // channels of one group
    std::int64_t ocg() const { return g ? oc / g : 0; }
    std::int64_t taps() const { return d().kernel * h().kernel * w().kernel; }
    std::int64_t in_pixels() const { return d().in * h().in * w().in; }
    std::int64_t out_pixels() const { return d().out * h().out * w().out; }
    bool pads() const;         // any padding, cropping included
    bool unit_stride() const;  // all strides 1
    bool unit_dilation() const;
    bool empty() const;  // nothing to compute: no output elements or no terms to sum
    double macs() const;  // of the direct algorithm; floating point because products of sizes may overflow
    double flops() const { return 2 * macs(); }

    // Completes `axis[].out` and checks every size rule. Throws std::invalid_argument with `function` in front.
    void validate(const std::string& function);

    friend bool operator==(const ConvDesc& a, const ConvDesc& b);
    std::size_t hash() const;

    // Descriptor string and back; parse throws std::invalid_argument, and parse(s).text() is canonical.
    std::string text() const;
    std::string key() const;  // without the epilogue: what wisdom is kept under
    static ConvDesc parse(const std::string& text);
};

const char* name(Direction);
const char* name(PadMode);
const char* name(Order);
const char* name(Accuracy);
const char* name(Activation);
std::string epilogue_text(const Epilogue&);

}  // namespace npconv
