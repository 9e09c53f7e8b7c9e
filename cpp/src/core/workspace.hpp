// Scratch memory, leased per call from one process-wide pool.
#pragma once

#include <cstddef>
#include <memory>

namespace npconv {

// 64-byte aligned, not initialised; large blocks ask the kernel for huge pages, because walking megabytes of packed
// weights costs a tenth of the time in TLB misses otherwise. Throws std::bad_alloc.
void* allocate(std::size_t bytes);
void release(void* data) noexcept;

struct Release {
    void operator()(char* data) const noexcept { release(data); }
};
using Buffer = std::unique_ptr<char, Release>;

inline Buffer make_buffer(std::size_t bytes) { return Buffer(static_cast<char*>(allocate(bytes))); }

// 64-byte aligned, not initialised. Throws std::bad_alloc.
class Lease {
public:
    explicit Lease(std::size_t bytes);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    void* data() const { return data_; }

private:
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

// Bytes that idle blocks of the pool may hold beyond the largest single lease so far. Default 256 MiB.
void set_workspace_limit(std::size_t bytes);
std::size_t workspace_limit();
void trim_workspaces();  // frees every idle block

struct WorkspaceInfo {
    std::size_t leased = 0, idle = 0, peak = 0, limit = 0;  // bytes
};
WorkspaceInfo workspace_info();

}  // namespace npconv
