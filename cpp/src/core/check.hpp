// Errors that say what, got, expected; and arithmetic on sizes that says so when it overflows.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

namespace npconv {

template <class... Parts> [[noreturn]] void fail(const std::string& function, const Parts&... parts) {
    std::ostringstream text;
    text << function << ": ";
    (text << ... << parts);
    throw std::invalid_argument(text.str());
}

inline std::int64_t checked_mul(std::int64_t a, std::int64_t b, const std::string& function) {
    std::int64_t r;
    if (__builtin_mul_overflow(a, b, &r)) fail(function, "sizes ", a, " x ", b, " overflow 64 bits");
    return r;
}

inline std::int64_t checked_add(std::int64_t a, std::int64_t b, const std::string& function) {
    std::int64_t r;
    if (__builtin_add_overflow(a, b, &r)) fail(function, "sizes ", a, " + ", b, " overflow 64 bits");
    return r;
}

}  // namespace npconv
