// The descriptor string: cache key, log line, test id, bench line and command-line argument in one.
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/check.hpp"
#include "npconv/conv_desc.hpp"

namespace npconv {
namespace {

template <class E> struct Name {
    E value;
    const char* text;
};

constexpr Name<Direction> directions[] = {
    {Direction::fwd, "fwd"}, {Direction::bwd_input, "bwd_input"}, {Direction::bwd_weight, "bwd_weight"}};
constexpr Name<DType> dtypes[] = {{DType::f32, "f32"}, {DType::f64, "f64"}};
constexpr Name<PadMode> pad_modes[] = {{PadMode::constant, "zeros"},
                                       {PadMode::reflect, "reflect"},
                                       {PadMode::symmetric, "symmetric"},
                                       {PadMode::replicate, "replicate"},
                                       {PadMode::circular, "circular"}};
constexpr Name<Order> orders[] = {{Order::nchw, "nchw"}, {Order::nhwc, "nhwc"}, {Order::any, "any"}};
constexpr Name<Accuracy> accuracies[] = {
    {Accuracy::strict, "strict"}, {Accuracy::standard, "standard"}, {Accuracy::fast, "fast"}};
constexpr Name<Weights> weights_kinds[] = {{Weights::constant, "const"}, {Weights::fresh, "fresh"}};
// No underscores here: they separate the fields.
constexpr Name<Activation> activations[] = {
    {Activation::none, "none"},       {Activation::relu, "relu"},
    {Activation::clip, "clip"},       {Activation::leaky_relu, "leakyrelu"},
    {Activation::silu, "silu"},       {Activation::sigmoid, "sigmoid"},
    {Activation::tanh, "tanh"},       {Activation::hardswish, "hardswish"},
    {Activation::gelu, "gelu"},       {Activation::gelu_tanh, "gelutanh"}};

template <class E, std::size_t N> const char* find_text(const Name<E> (&table)[N], E value) {
    for (const Name<E>& n : table)
        if (n.value == value) return n.text;
    return "?";
}
template <class E, std::size_t N> std::optional<E> find_value(const Name<E> (&table)[N], const std::string& text) {
    for (const Name<E>& n : table)
        if (text == n.text) return n.value;
    return std::nullopt;
}

std::vector<std::string> split(const std::string& text, char at) {
    std::vector<std::string> parts(1);
    for (char c : text)
        if (c == at)
            parts.emplace_back();
        else
            parts.back() += c;
    return parts;
}

// "a" if all are equal, else "a-b-c".
std::string joined(const std::vector<std::string>& parts) {
    bool same = true;
    for (const std::string& p : parts) same = same && p == parts[0];
    if (same) return parts[0];
    std::string text = parts[0];
    for (std::size_t i = 1; i < parts.size(); ++i) text += "-" + parts[i];
    return text;
}

using Sizes = std::map<std::string, std::int64_t>;

// "ic64ih56iw56" -> {ic: 64, ih: 56, iw: 56}
void read_sizes(const std::string& token, Sizes& sizes) {
    std::size_t i = 0;
    while (i < token.size()) {
        std::string key, digits;
        while (i < token.size() && std::islower(static_cast<unsigned char>(token[i]))) key += token[i++];
        if (i < token.size() && token[i] == '-') digits += token[i++];
        while (i < token.size() && std::isdigit(static_cast<unsigned char>(token[i]))) digits += token[i++];
        static const char* const known[] = {"mb", "g",  "ic", "id", "ih", "iw", "oc", "kd", "kh", "kw", "sd", "sh",
                                            "sw", "pf", "pt", "pl", "pe", "pb", "pr", "dd", "dh", "dw", "od", "oh", "ow"};
        bool ok = !digits.empty() && digits != "-" && digits.size() < 17;
        bool found = false;
        for (const char* k : known) found = found || key == k;
        if (!ok || !found) fail("descriptor", "can't read '", token, "' in it");
        if (!sizes.emplace(key, std::stoll(digits)).second) fail("descriptor", "'", key, "' stands in it twice");
    }
}

void fill_axes(ConvDesc& d, const Sizes& sizes) {
    const auto get = [&](const char* key, std::int64_t otherwise) {
        const auto it = sizes.find(key);
        return it == sizes.end() ? otherwise : it->second;
    };
    if (!sizes.count("ih") && !sizes.count("iw")) fail("descriptor", "neither 'ih' nor 'iw' stands in it");
    const bool deep = sizes.count("id") || sizes.count("kd");
    Axis& z = d.axis[0];
    Axis& y = d.axis[1];
    Axis& x = d.axis[2];
    y.in = get("ih", 1);
    y.kernel = get("kh", 1);
    y.stride = get("sh", 1);
    y.dilation = get("dh", 1);
    y.pad_begin = get("pt", 0);
    y.pad_end = get("pb", y.pad_begin);
    x.in = get("iw", y.in);
    x.kernel = get("kw", y.kernel);
    x.stride = get("sw", y.stride);
    x.dilation = get("dw", y.dilation);
    x.pad_begin = get("pl", y.pad_begin);
    x.pad_end = get("pr", x.pad_begin);
    if (!deep) return;
    z.in = get("id", 1);
    z.kernel = get("kd", y.kernel);
    z.stride = get("sd", y.stride);
    z.dilation = get("dd", y.dilation);
    z.pad_begin = get("pf", y.pad_begin);
    z.pad_end = get("pe", z.pad_begin);
}

bool read_dtypes(ConvDesc& d, const std::string& token) {
    const std::vector<std::string> parts = split(token, '-');
    DType types[4];
    if (parts.size() != 1 && parts.size() != 4) return false;
    for (std::size_t i = 0; i < 4; ++i) {
        const auto t = find_value(dtypes, parts.size() == 1 ? parts[0] : parts[i]);
        if (!t) return false;
        types[i] = *t;
    }
    d.src = types[0];
    d.wei = types[1];
    d.dst = types[2];
    d.acc = types[3];
    return true;
}

bool read_orders(ConvDesc& d, const std::string& token) {
    const std::vector<std::string> parts = split(token, '-');
    const auto src = find_value(orders, parts[0]), dst = find_value(orders, parts.back());
    if (parts.size() > 2 || !src || !dst) return false;
    d.src_order = *src;
    d.dst_order = *dst;
    return true;
}

// One mode for all axes, or one for each that the descriptor has, outermost first.
bool read_modes(ConvDesc& d, const std::string& token) {
    const std::vector<std::string> parts = split(token, '-');
    if (parts.size() > 3) return false;
    for (std::size_t i = 0; i < 3; ++i) {
        const std::size_t skipped = 3 - parts.size();
        const auto mode = find_value(pad_modes, parts.size() == 1 ? parts[0] : parts[i < skipped ? 0 : i - skipped]);
        if (!mode) return false;
        d.axis[i].mode = *mode;
    }
    return true;
}

bool read_epilogue(ConvDesc& d, const std::string& token) {
    Epilogue& e = d.epilogue;
    if (token == "none") return true;
    if (token == "scale") return e.scale = true;
    if (token == "bias") return e.bias = true;
    if (token == "residual") {
        e.residual = e.activation == Activation::none ? Residual::before : Residual::after;
        return true;
    }
    const auto activation = find_value(activations, token);
    if (activation) e.activation = *activation;
    return activation.has_value();
}

}  // namespace

const char* name(Direction v) { return find_text(directions, v); }
const char* name(PadMode v) { return find_text(pad_modes, v); }
const char* name(Order v) { return find_text(orders, v); }
const char* name(Accuracy v) { return find_text(accuracies, v); }
const char* name(Activation v) { return find_text(activations, v); }

// In the order in which they are applied, so that "relu_residual" is the residual after the activation.
std::string epilogue_text(const Epilogue& e) {
    std::string text;
    const auto put = [&](const char* part) { text += (text.empty() ? "" : "_") + std::string(part); };
    if (e.scale) put("scale");
    if (e.bias) put("bias");
    if (e.residual == Residual::before) put("residual");
    if (e.activation != Activation::none) put(name(e.activation));
    if (e.residual == Residual::after) put("residual");
    return text.empty() ? "none" : text;
}

std::string ConvDesc::key() const {
    const bool deep = !(d() == Axis{} || (d().in == 1 && d().kernel == 1 && d().stride == 1 && d().dilation == 1 && d().pad_begin == 0 && d().pad_end == 0));
    const std::size_t first = deep ? 0 : 1;
    std::string t = std::string(name(direction)) + "_" +
                    joined({dtype_name(src), dtype_name(wei), dtype_name(dst), dtype_name(acc)});
    const auto number = [&](const std::string& key, std::int64_t v) { t += key + std::to_string(v); };
    const auto each = [&](const char* const (&names)[3], std::int64_t Axis::*field) {
        for (std::size_t i = first; i < 3; ++i) number(names[i], axis[i].*field);
    };
    number("_mb", mb);
    number("_g", g);
    number("_ic", ic);
    each({"id", "ih", "iw"}, &Axis::in);
    number("_oc", oc);
    each({"kd", "kh", "kw"}, &Axis::kernel);
    t += "_";
    each({"sd", "sh", "sw"}, &Axis::stride);
    t += "_";
    each({"pf", "pt", "pl"}, &Axis::pad_begin);
    each({"pe", "pb", "pr"}, &Axis::pad_end);
    t += "_";
    each({"dd", "dh", "dw"}, &Axis::dilation);
    t += "_" + (src_order == dst_order ? std::string(name(src_order)) : std::string(name(src_order)) + "-" + name(dst_order));
    std::vector<std::string> modes;
    for (std::size_t i = first; i < 3; ++i) modes.push_back(name(axis[i].mode));
    return t + "_" + joined(modes) + "_" + name(accuracy) + "_" + find_text(weights_kinds, weights);
}

std::string ConvDesc::text() const { return key() + "_" + epilogue_text(epilogue); }

ConvDesc ConvDesc::parse(const std::string& text) {
    if (text.size() > 1000) fail("descriptor", "longer than 1000 characters");
    ConvDesc d;
    Sizes sizes;
    std::string rest = text;
    for (const Name<Direction>& n : directions)
        if (text.rfind(std::string(n.text) + "_", 0) == 0) {
            d.direction = n.value;
            rest = text.substr(std::string(n.text).size() + 1);
        }
    for (const std::string& token : split(rest, '_')) {
        if (token.empty()) fail("descriptor", "empty field in '", text, "'");
        if (const auto a = find_value(accuracies, token)) {
            d.accuracy = *a;
        } else if (const auto w = find_value(weights_kinds, token)) {
            d.weights = *w;
        } else if (!read_dtypes(d, token) && !read_orders(d, token) && !read_modes(d, token) && !read_epilogue(d, token)) {
            read_sizes(token, sizes);
        }
    }
    for (const char* key : {"ic", "oc"})
        if (!sizes.count(key)) fail("descriptor", "'", key, "' is missing in '", text, "'");
    d.mb = sizes.count("mb") ? sizes["mb"] : 1;
    d.g = sizes.count("g") ? sizes["g"] : 1;
    d.ic = sizes["ic"];
    d.oc = sizes["oc"];
    fill_axes(d, sizes);
    d.validate("descriptor");
    return d;
}

}  // namespace npconv
