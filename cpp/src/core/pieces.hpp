// Cuts a workspace into pieces.
#pragma once

#include <cstdint>

namespace npconv {

// Hands out 64-byte aligned pieces of the workspace; with a null base it only counts.
class Pieces {
public:
    explicit Pieces(void* base) : base_(static_cast<char*>(base)) {}
    template <class T> T* take(std::int64_t count) {
        T* p = reinterpret_cast<T*>(base_ ? base_ + used_ : nullptr);
        used_ += (count * static_cast<std::int64_t>(sizeof(T)) + 63) / 64 * 64;
        return p;
    }
    std::int64_t used() const { return used_; }

private:
    char* base_;
    std::int64_t used_ = 0;
};

}  // namespace npconv
