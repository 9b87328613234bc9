// SPDX-License-Identifier: Apache-2.0
// Peaks of a dense heat map and the dense heads at them, as reference/peaks.py. For graphs of level `heads`.
//
// find_peaks remembers candidates in any order; their keys are unique, so the order of atomics changes nothing.
// rank_peaks takes the K greatest keys: it sorts them all when they fit into shared memory, else it finds the K-th by
// radix selection first. More candidates than were remembered are found again from the heat map: slower, as right.
#include "common.cuh"

constexpr int TILE_W = 32, TILE_H = 8;  // block of find_peaks
constexpr int DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, KEY_BITS = 64;

// The key of cell `index` (class, row, column) of one image; 0 where it is no peak.
__device__ u64 peak_key(const float* heatmap, int height, int width, float least_score, u32 index) {
    float score = sigmoid(heatmap[index]);
    if (!(score > 0.0f && score >= least_score)) return 0;
    int x = index % width, y = index / width % height;
    for (int dy = -1; dy <= 1; dy++) {
        for (int dx = -1; dx <= 1; dx++) {
            if (y + dy < 0 || y + dy >= height || x + dx < 0 || x + dx >= width) continue;
            if (sigmoid(heatmap[(i64)index + dy * width + dx]) > score) return 0;
        }
    }
    return ranking_key(score, index);
}

// A thread is a cell: grid (tiles, C, N), block (TILE_W, TILE_H).
extern "C" __global__ void __launch_bounds__(TILE_W* TILE_H) find_peaks(
    // inputs
    const float* __restrict__ heatmap,  // [N, C, height, width] logits
    int height, int width, float least_score, u32 capacity,
    // outputs
    u32* __restrict__ candidate_counts,  // [N], zero before; also counts those beyond capacity
    u64* __restrict__ candidate_keys     // [N, capacity]
) {
    __shared__ float scores[TILE_H + 2][TILE_W + 2];  // with a border of one cell; 0 outside the map
    int tiles_across = (width + TILE_W - 1) / TILE_W;
    int left = blockIdx.x % tiles_across * TILE_W, top = blockIdx.x / tiles_across * TILE_H;
    u32 first = blockIdx.y * (u32)(height * width);  // of this class
    const float* image = heatmap + (i64)blockIdx.z * gridDim.y * height * width;
    int thread = threadIdx.y * TILE_W + threadIdx.x;
    for (int i = thread; i < (TILE_H + 2) * (TILE_W + 2); i += TILE_W * TILE_H) {
        int row = i / (TILE_W + 2), column = i % (TILE_W + 2);
        int y = top + row - 1, x = left + column - 1;
        bool inside = 0 <= y && y < height && 0 <= x && x < width;
        scores[row][column] = inside ? sigmoid(image[first + y * width + x]) : 0.0f;
    }
    __syncthreads();
    int y = top + threadIdx.y, x = left + threadIdx.x;
    float score = scores[threadIdx.y + 1][threadIdx.x + 1];
    bool peak = y < height && x < width && score > 0.0f && score >= least_score;
    for (int dy = 0; dy < 3; dy++) {
        for (int dx = 0; dx < 3; dx++) peak = peak && !(scores[threadIdx.y + dy][threadIdx.x + dx] > score);
    }
    u32 peaks = __ballot_sync(ALL_LANES, peak);
    if (!peaks) return;
    u32 lane = threadIdx.x, slot = 0;
    if (lane == 0) slot = atomicAdd(&candidate_counts[blockIdx.z], (u32)__popc(peaks));
    slot = __shfl_sync(ALL_LANES, slot, 0) + __popc(peaks & ((1u << lane) - 1u));
    if (peak && slot < capacity) {
        candidate_keys[(i64)blockIdx.z * capacity + slot] = ranking_key(score, first + y * width + x);
    }
}

// The candidates of one image: those that were remembered or, where some were not, all cells of the heat map.
struct Candidates {
    const u64* remembered;
    const float* heatmap;  // [classes, height, width] logits
    int height, width;
    float least_score;
    bool forgotten;
    u32 scanned;  // remembered ones, or cells

    __device__ __forceinline__ u64 key(u32 i) const {  // 0 where it is no peak
        return forgotten ? peak_key(heatmap, height, width, least_score, i) : remembered[i];
    }
};

// The k-th greatest key of at least k, by a whole block: radix selection, one digit after the other from the top.
// Barriers on both sides.
__device__ u64 kth_greatest_key(const Candidates& candidates, u32 k) {
    __shared__ u32 histogram[DIGITS];
    __shared__ u64 shared_prefix;
    __shared__ u32 shared_need;  // keys to come of those with the prefix
    int thread = threadIdx.x, threads = blockDim.x;
    if (thread == 0) {
        shared_prefix = 0;
        shared_need = k;
    }
    for (int shift = KEY_BITS - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        for (int i = thread; i < DIGITS; i += threads) histogram[i] = 0;
        __syncthreads();
        u64 prefix = shared_prefix;
        for (u32 i = thread; i < candidates.scanned; i += threads) {
            u64 key = candidates.key(i);
            bool same = shift == KEY_BITS - DIGIT_BITS || key >> (shift + DIGIT_BITS) == prefix >> (shift + DIGIT_BITS);
            if (key && same) atomicAdd(&histogram[(u32)(key >> shift) & (DIGITS - 1)], 1u);
        }
        __syncthreads();
        if (thread < WARP) {  // a lane has 8 digits, lane 0 the greatest
            constexpr int EACH = DIGITS / WARP;
            u32 need = shared_need, mine = 0;
            int greatest = DIGITS - 1 - thread * EACH;
            for (int i = 0; i < EACH; i++) mine += histogram[greatest - i];
            u32 through = mine;
            for (int step = 1; step < WARP; step <<= 1) {
                u32 before = __shfl_up_sync(ALL_LANES, through, step);
                if (thread >= step) through += before;
            }
            u32 above = through - mine;
            __syncwarp();  // all lanes have read shared_need
            if (above < need && need <= through) {
                int digit = greatest;
                for (; above + histogram[digit] < need; digit--) above += histogram[digit];
                shared_prefix = prefix | (u64)digit << shift;
                shared_need = need - above;
            }
        }
        __syncthreads();
    }
    return shared_prefix;
}

// The `kept` keys that are least_key or greater into shared memory, greatest first, by a whole block. The power of two
// from `kept` is filled up with 0. Barriers on both sides.
__device__ void collect_keys(const Candidates& candidates, u64 least_key, int kept, u64* ranked) {
    __shared__ u32 collected;
    if (threadIdx.x == 0) collected = 0;
    int padded = power_of_two_from(kept);
    for (int i = threadIdx.x; i < padded; i += blockDim.x) ranked[i] = 0;
    __syncthreads();
    for (u32 i = threadIdx.x; i < candidates.scanned; i += blockDim.x) {
        u64 key = candidates.key(i);
        if (key >= least_key) ranked[atomicAdd(&collected, 1u)] = key;
    }
    sort_descending(ranked, padded);
}

// A block is an image: grid (N), block any multiple of 32. Shared: sort_capacity keys, a power of two from K.
extern "C" __global__ void rank_peaks(
    // inputs
    const u32* __restrict__ candidate_counts,  // [N]
    const u64* __restrict__ candidate_keys,    // [N, capacity]
    const float* __restrict__ heatmap,         // [N, classes, height, width] logits
    int classes, int height, int width, float least_score, u32 capacity, int k, int sort_capacity,
    // outputs
    float* __restrict__ scores,  // [N, k]
    int* __restrict__ labels,    // [N, k]
    int* __restrict__ cells_yx   // [N, k, 2]
) {
    DYNAMIC_SHARED(u64, ranked);  // [sort_capacity]
    i64 image = blockIdx.x;
    u32 found = candidate_counts[image], cells = classes * height * width;
    bool forgotten = found > capacity, too_many = found > (u32)sort_capacity;
    Candidates candidates = {candidate_keys + image * capacity, heatmap + image * cells, height, width, least_score,
                             forgotten, forgotten ? cells : found};
    u64 least_key = too_many ? kth_greatest_key(candidates, k) : 1;
    int kept = too_many ? k : (int)found;
    collect_keys(candidates, least_key, kept, ranked);
    for (int i = threadIdx.x; i < k; i += blockDim.x) {
        u64 key = i < kept ? ranked[i] : 0;
        u32 index = key ? key_index(key) : 0;
        i64 row = image * k + i;
        scores[row] = key_score(key);
        labels[row] = index / (height * width);
        cells_yx[2 * row] = index / width % height;
        cells_yx[2 * row + 1] = index % width;
    }
}

// A block is a peak: grid (K, N), block any. Boxes as decode_boxes, shapes as the graph of level `peaks` gives them.
extern "C" __global__ void gather_heads(
    // inputs
    const int* __restrict__ cells_yx,         // [N, K, 2]
    const float* __restrict__ offsets,        // [N, 2, height, width] x, y
    const float* __restrict__ sizes,          // [N, 2, height, width] width, height
    const float* __restrict__ dense_shapes,   // [N, shape_cells, height, width] logits
    int height, int width, int shape_cells, float stride,
    // outputs
    float* __restrict__ boxes,  // [N, K, 4] xyxy, input pixels
    float* __restrict__ shapes  // [N, K, shape_cells] logits
) {
    i64 image = blockIdx.y, row = image * gridDim.x + blockIdx.x, map = (i64)height * width;
    int y = cells_yx[2 * row], x = cells_yx[2 * row + 1];
    i64 cell = (i64)y * width + x;
    if (threadIdx.x < 2) {  // one axis each
        int axis = threadIdx.x;
        float size = sizes[(image * 2 + axis) * map + cell];
        float centre = ((float)(axis == 0 ? x : y) + offsets[(image * 2 + axis) * map + cell]) * stride;
        float half = (size < 0.0f ? 0.0f : size) * stride * 0.5f;  // NaN stays
        boxes[4 * row + axis] = centre - half;
        boxes[4 * row + 2 + axis] = centre + half;
    }
    for (int i = threadIdx.x; i < shape_cells; i += blockDim.x) {
        shapes[row * shape_cells + i] = dense_shapes[(image * shape_cells + i) * map + cell];
    }
}
