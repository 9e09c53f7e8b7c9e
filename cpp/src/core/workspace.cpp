#include "core/workspace.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "core/fork.hpp"

namespace npconv {
namespace {

struct Block {
    void* data;
    std::size_t bytes;
};

struct Pool {
    std::mutex mutex;
    std::vector<Block> idle;  // oldest first
    std::size_t idle_bytes = 0, leased_bytes = 0, peak_bytes = 0, largest = 0;
    std::size_t limit = std::size_t(256) << 20;

    void trim_to(std::size_t bytes) {
        std::size_t drop = 0;
        while (drop < idle.size() && idle_bytes > bytes) {
            idle_bytes -= idle[drop].bytes;
            release(idle[drop].data);
            ++drop;
        }
        idle.erase(idle.begin(), idle.begin() + static_cast<std::ptrdiff_t>(drop));
    }
};

// Never destroyed: leases may be given back while the process shuts down.
Pool& pool() {
    static Pool& p = [&]() -> Pool& {
        Pool* const made = new Pool;
        hold_over_fork(made->mutex);
        return *made;
    }();
    return p;
}

// Sizes are rounded up so that neighbouring shapes reuse each other's blocks: steps of an eighth of the size.
std::size_t rounded(std::size_t bytes) {
    std::size_t step = 4096;
    while (step * 16 < bytes) step *= 2;
    return (bytes + step - 1) / step * step;
}

constexpr std::size_t huge_page = std::size_t(2) << 20;

void* try_allocate(std::size_t bytes) {
    const bool huge = bytes >= 2 * huge_page;
    const std::size_t alignment = huge ? huge_page : 64;
    if (bytes > SIZE_MAX - alignment) return nullptr;
    void* data = nullptr;
    if (posix_memalign(&data, alignment, std::max<std::size_t>(bytes, 64)) != 0) return nullptr;
#if defined(MADV_HUGEPAGE)
    if (huge) madvise(data, bytes / huge_page * huge_page, MADV_HUGEPAGE);  // a hint: failing is no error
#endif
    return data;
}

}  // namespace

void* allocate(std::size_t bytes) {
    void* data = try_allocate(bytes);
    if (!data) throw std::bad_alloc();
    return data;
}

void release(void* data) noexcept { std::free(data); }

Lease::Lease(std::size_t bytes) {
    if (bytes == 0) return;
    if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
    bytes_ = rounded(bytes);
    Pool& p = pool();
    {
        const std::lock_guard<std::mutex> lock(p.mutex);
        p.largest = std::max(p.largest, bytes_);
        // The smallest idle block that fits and isn't more than twice as large.
        auto best = p.idle.end();
        for (auto it = p.idle.begin(); it != p.idle.end(); ++it)
            if (it->bytes >= bytes_ && it->bytes <= 2 * bytes_ && (best == p.idle.end() || it->bytes < best->bytes)) best = it;
        if (best != p.idle.end()) {
            data_ = best->data;
            bytes_ = best->bytes;
            p.idle_bytes -= bytes_;
            p.idle.erase(best);
        }
        p.leased_bytes += bytes_;
        p.peak_bytes = std::max(p.peak_bytes, p.leased_bytes);
    }
    if (data_) return;
    data_ = try_allocate(bytes_);
    if (data_) return;
    const std::lock_guard<std::mutex> lock(p.mutex);
    p.leased_bytes -= bytes_;
    throw std::bad_alloc();
}

Lease::~Lease() {
    if (!data_) return;
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(p.mutex);
    p.leased_bytes -= bytes_;
    p.idle.push_back({data_, bytes_});
    p.idle_bytes += bytes_;
    p.trim_to(p.limit + p.largest);
}

void set_workspace_limit(std::size_t bytes) {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(p.mutex);
    p.limit = bytes;
    p.trim_to(p.limit + p.largest);
}

std::size_t workspace_limit() {
    const std::lock_guard<std::mutex> lock(pool().mutex);
    return pool().limit;
}

void trim_workspaces() {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(p.mutex);
    p.trim_to(0);
    p.largest = 0;
}

WorkspaceInfo workspace_info() {
    const std::lock_guard<std::mutex> lock(pool().mutex);
    return {pool().leased_bytes, pool().idle_bytes, pool().peak_bytes, pool().limit};
}

}  // namespace npconv
