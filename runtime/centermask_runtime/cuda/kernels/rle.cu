// SPDX-License-Identifier: Apache-2.0
// COCO run lengths of the masks in the arena, as reference/rle.py before it writes them as a string.
//
// Runs alternate between 0 and 1, beginning with 0, down the columns of the whole frame. A run ends where a pixel
// differs from the one before it; a thread walks a column of the crop and meets these places in order.
#include "common.cuh"

constexpr int RLE_THREADS = 256;

struct Crop {
    const u8* bits;  // [y1 - y0, row_bytes]
    int x0, y0, x1, y1, row_bytes, frame_h, frame_w;

    __device__ __forceinline__ bool at(int y, int x) const {
        return bits[(i64)(y - y0) * row_bytes + (x - x0) / 8] >> ((x - x0) % 8) & 1;
    }
};

// False when the mask was not written because the arena is too small.
__device__ __forceinline__ bool crop_of(const int* rects, const u64* offsets, const u8* arena, u64 arena_bytes,
                                        i64 image, i64 detection, int frame_h, int frame_w, Crop* crop) {
    const int* rect = rects + 4 * detection;
    int row_bytes = (rect[2] - rect[0] + 7) / 8;
    u64 begin = offsets[detection];
    *crop = {arena + image * arena_bytes + begin, rect[0], rect[1], rect[2], rect[3], row_bytes, frame_h, frame_w};
    return begin + (u64)(rect[3] - rect[1]) * (u64)row_bytes <= arena_bytes;
}

// Calls edge(position) for each place of column x where a run ends, in order. Position: x * frame_h + y, below the
// frame's last. The end of a run that reaches the bottom lies in the next column: the crop's next column finds it when
// the crop is as high as the frame, else it is reported here.
template <class Edge>
__device__ __forceinline__ void walk_column(const Crop& crop, int x, Edge edge) {
    bool whole = crop.y0 == 0 && crop.y1 == crop.frame_h;
    bool before = whole && x > crop.x0 && crop.at(crop.frame_h - 1, x - 1);
    u32 top = (u32)x * (u32)crop.frame_h;
    for (int y = crop.y0; y < crop.y1; y++) {
        bool now = crop.at(y, x);
        if (now != before) edge(top + (u32)y);
        before = now;
    }
    u32 end = top + (u32)crop.y1;
    bool next_column_finds_it = whole && x + 1 < crop.x1;
    if (before && !next_column_finds_it && end < (u32)crop.frame_w * (u32)crop.frame_h) edge(end);
}

// A block is a mask: grid (K, N), block RLE_THREADS.
extern "C" __global__ void __launch_bounds__(RLE_THREADS, BLOCKS_AT_ONCE) count_runs(
    // inputs
    const int* __restrict__ found,    // [N]
    const int* __restrict__ rects,    // [N, K, 4]
    const u64* __restrict__ offsets,  // [N, K]
    const u8* __restrict__ arena,     // [N, arena_bytes]
    u64 arena_bytes, int frame_h, int frame_w,
    // outputs
    u32* __restrict__ run_counts  // [N, K]; 0 for a mask that is not in the arena
) {
    __shared__ u32 edges;
    i64 image = blockIdx.y, detection = image * gridDim.x + blockIdx.x;
    if ((int)blockIdx.x >= found[image]) return;
    Crop crop;
    bool written = crop_of(rects, offsets, arena, arena_bytes, image, detection, frame_h, frame_w, &crop);
    if (threadIdx.x == 0) edges = 0;
    __syncthreads();
    u32 mine = 0;
    if (written) {
        for (int x = crop.x0 + threadIdx.x; x < crop.x1; x += RLE_THREADS) walk_column(crop, x, [&](u32) { mine++; });
    }
    if (mine) atomicAdd(&edges, mine);
    __syncthreads();
    if (threadIdx.x == 0) run_counts[detection] = written ? edges + 1 : 0;
}

// A block is a mask: grid (K, N), block RLE_THREADS.
extern "C" __global__ void __launch_bounds__(RLE_THREADS, BLOCKS_AT_ONCE) write_runs(
    // inputs
    const int* __restrict__ found,       // [N]
    const int* __restrict__ rects,       // [N, K, 4]
    const u64* __restrict__ offsets,     // [N, K]
    const u8* __restrict__ arena,        // [N, arena_bytes]
    const u32* __restrict__ run_counts,  // [N, K]
    u64 arena_bytes, int frame_h, int frame_w, u64 runs_capacity,
    // outputs
    u64* __restrict__ run_offsets,  // [N, K]
    u64* __restrict__ run_totals,   // [N]
    u32* __restrict__ runs          // [N, runs_capacity]
) {
    __shared__ u64 shared_begin;
    __shared__ u32 counts[RLE_THREADS], lasts[RLE_THREADS];  // edges so far, and the last one's position
    __shared__ u32 base_count, base_last;
    int thread = threadIdx.x;
    i64 image = blockIdx.y, detection = image * gridDim.x + blockIdx.x;
    int count_found = found[image];
    if ((int)blockIdx.x >= count_found) {
        if (blockIdx.x == 0 && thread == 0) run_totals[image] = 0;
        return;
    }
    if (thread == 0) {
        shared_begin = 0;
        base_count = 0;
        base_last = 0;
    }
    __syncthreads();
    u64 before = 0;
    for (int i = thread; i < (int)blockIdx.x; i += RLE_THREADS) before += run_counts[image * gridDim.x + i];
    if (before) atomicAdd(&shared_begin, before);
    __syncthreads();
    u64 begin = shared_begin, mine = run_counts[detection];
    if (thread == 0) {
        run_offsets[detection] = begin;
        if ((int)blockIdx.x == count_found - 1) run_totals[image] = begin + mine;
    }
    Crop crop;
    bool written = crop_of(rects, offsets, arena, arena_bytes, image, detection, frame_h, frame_w, &crop);
    if (!written || begin + mine > runs_capacity) return;  // the caller sees mask_bytes and run_totals
    u32* out = runs + image * runs_capacity + begin;
    for (int first = crop.x0; first < crop.x1; first += RLE_THREADS) {
        int x = first + thread;
        u32 edges = 0, last = 0;
        if (x < crop.x1) {
            walk_column(crop, x, [&](u32 position) {
                edges++;
                last = position;
            });
        }
        counts[thread] = edges;
        lasts[thread] = last;
        __syncthreads();
        for (int step = 1; step < RLE_THREADS; step <<= 1) {  // prefix sum, and maximum: positions rise
            u32 count_before = 0, last_before = 0;
            if (thread >= step) {
                count_before = counts[thread - step];
                last_before = lasts[thread - step];
            }
            __syncthreads();
            counts[thread] += count_before;
            if (last_before > lasts[thread]) lasts[thread] = last_before;
            __syncthreads();
        }
        if (edges) {
            u32 at = base_count + counts[thread] - edges;
            u32 previous = thread > 0 && lasts[thread - 1] > base_last ? lasts[thread - 1] : base_last;
            walk_column(crop, x, [&](u32 position) {
                out[at++] = position - previous;
                previous = position;
            });
        }
        __syncthreads();
        if (thread == 0) {
            base_count += counts[RLE_THREADS - 1];
            if (lasts[RLE_THREADS - 1] > base_last) base_last = lasts[RLE_THREADS - 1];
        }
        __syncthreads();
    }
    if (thread == 0) out[base_count] = (u32)frame_w * (u32)frame_h - base_last;
}
