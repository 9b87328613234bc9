// SPDX-License-Identifier: Apache-2.0
// What several kernels share: integer names, the sigmoid, and a sort of one block's keys.
//
// One source for nvcc, NVRTC and, through tests/support/cuda_cpu/shim.h, a C++ compiler. No system headers. Every floating-point
// operation is one IEEE operation; compile with --fmad=false (-ffp-contract=off) and the bits equal NumPy's.
#pragma once

using u8 = unsigned char;
using u32 = unsigned int;
using u64 = unsigned long long;
using i64 = long long;

#ifndef DYNAMIC_SHARED  // the CPU build brings its own
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

constexpr int WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;
// Blocks of 256 threads on a multiprocessor: leaves 64 registers a thread. Left to itself, ptxas aims at more and spills.
constexpr int BLOCKS_AT_ONCE = 4;

// As reference/sigmoid.py: Cephes' expf of -|v|, |v| cut at 87, NaN -> 0.
__device__ __forceinline__ float sigmoid(float v) {
    if (v != v) return 0.0f;
    float r = -fminf(fabsf(v), 87.0f);
    float n = rintf(r * 1.44269504f);  // 1 / ln 2
    r = r - n * 0.693359375f;          // ln 2 in two parts
    r = r - n * -2.12194440e-4f;
    float e = 1.9875691500e-4f;
    e = e * r + 1.3981999507e-3f;
    e = e * r + 8.3334519073e-3f;
    e = e * r + 4.1665795894e-2f;
    e = e * r + 1.6666665459e-1f;
    e = e * r + 5.0000001201e-1f;
    e = e * (r * r);
    e = e + r;
    e = e + 1.0f;
    e = e * __int_as_float(((int)n + 127) << 23);  // 2^n by its bits
    float s = 1.0f / (e + 1.0f);
    return v >= 0.0f ? s : e * s;
}

// Unique keys whose order, greatest first, is: greatest score, then smallest index. A score is positive, so that its
// bits are ordered as it is; 0 is no key.
__device__ __forceinline__ u64 ranking_key(float score, u32 index) {
    return ((u64)__float_as_uint(score) << 32) | (u64)(~index);
}
__device__ __forceinline__ float key_score(u64 key) { return __uint_as_float((u32)(key >> 32)); }
__device__ __forceinline__ u32 key_index(u64 key) { return ~(u32)key; }

__device__ __forceinline__ int power_of_two_from(int count) {
    int power = 1;
    while (power < count) power <<= 1;
    return power;
}

// Bitonic sort of shared keys by a whole block, greatest first; count is a power of two. Barriers on both sides.
__device__ __forceinline__ void sort_descending(u64* keys, int count) {
    __syncthreads();
    for (int run = 2; run <= count; run <<= 1) {
        for (int step = run >> 1; step > 0; step >>= 1) {
            for (int i = threadIdx.x; i < count; i += blockDim.x) {
                int partner = i ^ step;
                if (partner > i) {
                    bool descending = (i & run) == 0;
                    u64 a = keys[i], b = keys[partner];
                    if ((a < b) == descending) {
                        keys[i] = b;
                        keys[partner] = a;
                    }
                }
            }
            __syncthreads();
        }
    }
}
