// SPDX-License-Identifier: Apache-2.0
// CUDA C++ for a C++20 compiler: just enough of it to run our kernels, one block at a time, on a CPU.
//
// What it checks that a GPU does not: every parameter's type against the argument's, barriers that not all threads
// reach, warp intrinsics that wait for lanes which never come, and, by poison in all shared memory before each block,
// shared memory read before it was written. What it cannot show: memory ordering, warps that run apart, speed.
// The threads of a block are fibers (engine_fibers.h), or threads of the system for ThreadSanitizer (engine_threads.h). Included once.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __shared__ static __attribute__((section("cuda_shared")))
#define DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(shim::dynamic_shared)

extern char __start_cuda_shared[], __stop_cuda_shared[];  // the linker's, around the section
__attribute__((section("cuda_shared"), used)) static char section_exists_without_kernels_too;

namespace shim {
struct Index {
    unsigned x, y, z;
};
using Call = void (*)(void**);
constexpr unsigned WARP_LANES = 32;
constexpr int POISON = 0xff;  // NaN as a float, the greatest key, -1

inline Index grid, block, block_index;
inline void* dynamic_shared = nullptr;
inline size_t dynamic_bytes = 0;
inline std::string error;
inline bool reversed_threads = false;  // fibers run from the last to the first

Index& thread_index();
unsigned lane();
uint64_t* warp_slots();  // one for each lane of the calling warp
void block_barrier();
void warp_barrier(unsigned mask);
void run_block(Call kernel, void** arguments);
void prepare_launch();

template <class T>
uint64_t to_slot(T value) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    uint64_t slot = 0;
    memcpy(&slot, &value, sizeof(T));
    return slot;
}
template <class T>
T shuffle(unsigned mask, T value, unsigned from) {
    uint64_t* slots = warp_slots();
    slots[lane()] = to_slot(value);
    warp_barrier(mask);
    T result;
    memcpy(&result, &slots[from % WARP_LANES], sizeof(T));
    warp_barrier(mask);
    return result;
}
}  // namespace shim

#define threadIdx (shim::thread_index())
#define blockIdx (shim::block_index)
#define blockDim (shim::block)
#define gridDim (shim::grid)

inline void __syncthreads() { shim::block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { shim::warp_barrier(mask); }
template <class T>
T __shfl_sync(unsigned mask, T value, int from) {
    return shim::shuffle(mask, value, from);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
    unsigned lane = shim::lane();
    return shim::shuffle(mask, value, lane >= delta ? lane - delta : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    uint64_t* slots = shim::warp_slots();
    slots[shim::lane()] = predicate != 0;
    shim::warp_barrier(mask);
    unsigned ballot = 0;
    for (unsigned i = 0; i < shim::WARP_LANES; i++) {
        if (mask >> i & 1 && slots[i]) ballot |= 1u << i;
    }
    shim::warp_barrier(mask);
    return ballot;
}
template <class T, class U>
T atomicAdd(T* address, U value) {
    return __atomic_fetch_add(address, static_cast<T>(value), __ATOMIC_RELAXED);
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz((unsigned)bits) : 32; }
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
inline float __uint_as_float(unsigned bits) { return __int_as_float(static_cast<int>(bits)); }
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

#ifdef SHIM_THREADS
#include "engine_threads.h"
#else
#include "engine_fibers.h"
#endif

namespace shim {
// A parameter's type as NumPy's character for it; P for a pointer.
template <class T>
constexpr char type_code() {
    if constexpr (std::is_pointer_v<T>) return 'P';
    if constexpr (std::is_same_v<T, int>) return 'i';
    if constexpr (std::is_same_v<T, unsigned>) return 'I';
    if constexpr (std::is_same_v<T, long long>) return 'q';
    if constexpr (std::is_same_v<T, unsigned long long>) return 'Q';
    if constexpr (std::is_same_v<T, float>) return 'f';
    if constexpr (std::is_same_v<T, double>) return 'd';
    return '?';
}
template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}
template <auto Kernel>
struct Bind;
template <class... A, void (*Kernel)(A...)>
struct Bind<Kernel> {
    static void go(void** arguments) { call(Kernel, arguments, std::index_sequence_for<A...>{}); }
    static constexpr char parameters[] = {type_code<A>()..., '\0'};
};
struct Entry {
    const char* name;
    Call call;
    const char* parameters;  // their types
    const char* names;       // of the parameters, with spaces between
};

inline int launch(const Entry& entry, Index grid_, Index block_, unsigned shared_bytes, void** arguments) {
    error.clear();
    size_t threads = static_cast<size_t>(block_.x) * block_.y * block_.z;
    size_t blocks = static_cast<size_t>(grid_.x) * grid_.y * grid_.z;
    size_t fixed = __stop_cuda_shared - __start_cuda_shared;
    if (!blocks || !threads || grid_.y > 65535 || grid_.z > 65535 || threads > 1024 || shared_bytes > 48 * 1024) {
        error = "invalid configuration";
        return 1;
    }
    grid = grid_;
    block = block_;
    dynamic_bytes = shared_bytes;
    prepare_launch();
    for (unsigned z = 0; z < grid.z && error.empty(); z++) {
        for (unsigned y = 0; y < grid.y && error.empty(); y++) {
            for (unsigned x = 0; x < grid.x && error.empty(); x++) {
                block_index = {x, y, z};
                memset(__start_cuda_shared, POISON, fixed);
                dynamic_shared = malloc(shared_bytes ? shared_bytes : 1);  // each block its own: red zones around it
                memset(dynamic_shared, POISON, shared_bytes);
                run_block(entry.call, arguments);
                free(dynamic_shared);
            }
        }
    }
    return error.empty() ? 0 : 2;
}
}  // namespace shim

#define SHIM_KERNEL(kernel, names) {#kernel, shim::Bind<&kernel>::go, shim::Bind<&kernel>::parameters, names}
#define SHIM_TABLE(...)                                                                                        \
    static const shim::Entry shim_table[] = {__VA_ARGS__};                                                     \
    extern "C" int shim_find(const char* name) {                                                               \
        int i = 0;                                                                                             \
        for (const shim::Entry& entry : shim_table) {                                                          \
            if (!strcmp(entry.name, name)) return i;                                                           \
            i++;                                                                                               \
        }                                                                                                      \
        return -1;                                                                                             \
    }                                                                                                          \
    extern "C" const char* shim_parameters(int kernel) { return shim_table[kernel].parameters; }               \
    extern "C" const char* shim_names(int kernel) { return shim_table[kernel].names; }                         \
    extern "C" const char* shim_error() { return shim::error.c_str(); }                                        \
    extern "C" void shim_reverse_threads(int reversed) { shim::reversed_threads = reversed != 0; }             \
    extern "C" int shim_launch(int kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,    \
                               unsigned bz, unsigned shared_bytes, void** arguments) {                         \
        return shim::launch(shim_table[kernel], {gx, gy, gz}, {bx, by, bz}, shared_bytes, arguments);          \
    }
