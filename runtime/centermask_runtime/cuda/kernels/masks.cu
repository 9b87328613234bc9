// SPDX-License-Identifier: Apache-2.0
// Detections of a graph of level `peaks` into masks, as pipeline.postprocess and reference/masks.py.
//
// select_detections chooses and places them, saliency_probabilities takes the sigmoid of the maps once, and
// assemble_masks samples every pixel of every box. A mask is rows of bits, little bit order, ceil(w / 8) bytes a row, in
// its image's part of the arena. Coordinates of boxes are computed in float64 and rounded, as Letterbox.to_frame does.
#include "common.cuh"

constexpr int SELECT_THREADS = 256;
constexpr int MASK_THREADS = 256, MASK_WARPS = MASK_THREADS / WARP;

struct Rect {
    int x0, y0, x1, y1;
};

__device__ __forceinline__ int first_centre(float edge, int count) {
    return (int)fminf(fmaxf(ceilf(edge - 0.5f), 0.0f), (float)count);
}

// As pixel_rects: the pixels whose centres are in the box; all 0 where there are none.
__device__ __forceinline__ Rect pixel_rect(const float* box, int frame_h, int frame_w) {
    for (int i = 0; i < 4; i++) {
        if (!(fabsf(box[i]) <= 3.402823466e+38f)) return {0, 0, 0, 0};  // NaN or infinite
    }
    Rect rect = {first_centre(box[0], frame_w), first_centre(box[1], frame_h), first_centre(box[2], frame_w),
                 first_centre(box[3], frame_h)};
    if (rect.x0 >= rect.x1 || rect.y0 >= rect.y1) return {0, 0, 0, 0};
    return rect;
}

__device__ __forceinline__ void box_to_frame(const float* box, double left, double top, double scale_x,
                                             double scale_y, float* in_frame) {
    in_frame[0] = (float)(((double)box[0] - left) / scale_x);
    in_frame[1] = (float)(((double)box[1] - top) / scale_y);
    in_frame[2] = (float)(((double)box[2] - left) / scale_x);
    in_frame[3] = (float)(((double)box[3] - top) / scale_y);
}

__device__ __forceinline__ float clip(float edge, int count) { return fminf(fmaxf(edge, 0.0f), (float)count); }

// A block is an image: grid (N), block SELECT_THREADS. Shared: the power of two from K keys.
extern "C" __global__ void __launch_bounds__(SELECT_THREADS, 1) select_detections(
    // inputs
    const float* __restrict__ scores,       // [N, k]
    const int* __restrict__ labels,         // [N, k]
    const float* __restrict__ input_boxes,  // [N, k, 4] xyxy, network input pixels
    const u8* __restrict__ allowed,         // [classes] 0: drop
    int k, int classes, float score_threshold, int max_detections, double left, double top, double scale_x,
    double scale_y, int frame_h, int frame_w,
    // outputs
    int* __restrict__ found,           // [N]
    u64* __restrict__ mask_bytes,      // [N] that all masks of the image need
    float* __restrict__ kept_scores,   // [N, k] best first, as all that follow; rows from found on are left alone
    int* __restrict__ kept_labels,     // [N, k]
    float* __restrict__ boxes,         // [N, k, 4] source pixels, clipped to the frame
    int* __restrict__ rects,           // [N, k, 4] pixels of the frame
    u64* __restrict__ offsets,         // [N, k] of each mask in its image's part of the arena
    int* __restrict__ rows,            // [N, k] of the inputs
    float* __restrict__ sampled_boxes  // [N, k, 4] source pixels, not clipped
) {
    DYNAMIC_SHARED(u64, ranked_detections);  // [power of two from k]
    __shared__ u64 sums[SELECT_THREADS];
    __shared__ int kept;
    __shared__ u64 base;
    int thread = threadIdx.x;
    i64 image = blockIdx.x;
    if (thread == 0) {
        kept = 0;
        base = 0;
    }
    __syncthreads();
    int padded = power_of_two_from(k);
    for (int i = thread; i < padded; i += SELECT_THREADS) {
        u64 key = 0;
        if (i < k) {
            i64 row = image * k + i;
            float score = scores[row];
            int label = labels[row];
            if (score > 0.0f && score >= score_threshold && label >= 0 && label < classes && allowed[label]) {
                float box[4];
                box_to_frame(input_boxes + 4 * row, left, top, scale_x, scale_y, box);
                Rect rect = pixel_rect(box, frame_h, frame_w);
                if (rect.x1 > rect.x0) {
                    key = ranking_key(score, i);
                    atomicAdd(&kept, 1);
                }
            }
        }
        ranked_detections[i] = key;
    }
    sort_descending(ranked_detections, padded);
    int count = kept < max_detections ? kept : max_detections;
    for (int first = 0; first < count; first += SELECT_THREADS) {
        int i = first + thread;
        u64 bytes = 0;
        if (i < count) {
            int from = (int)key_index(ranked_detections[i]);
            i64 in = image * k + from, out = image * k + i;
            float box[4];
            box_to_frame(input_boxes + 4 * in, left, top, scale_x, scale_y, box);
            Rect rect = pixel_rect(box, frame_h, frame_w);
            bytes = (u64)(rect.y1 - rect.y0) * (u64)((rect.x1 - rect.x0 + 7) / 8);
            kept_scores[out] = scores[in];
            kept_labels[out] = labels[in];
            rows[out] = from;
            rects[4 * out] = rect.x0;
            rects[4 * out + 1] = rect.y0;
            rects[4 * out + 2] = rect.x1;
            rects[4 * out + 3] = rect.y1;
            for (int edge = 0; edge < 4; edge++) {
                sampled_boxes[4 * out + edge] = box[edge];
                boxes[4 * out + edge] = clip(box[edge], edge % 2 == 0 ? frame_w : frame_h);
            }
        }
        sums[thread] = bytes;  // prefix sum over the threads
        __syncthreads();
        for (int step = 1; step < SELECT_THREADS; step <<= 1) {
            u64 before = thread >= step ? sums[thread - step] : 0;
            __syncthreads();
            sums[thread] += before;
            __syncthreads();
        }
        if (i < count) offsets[image * k + i] = base + sums[thread] - bytes;
        __syncthreads();
        if (thread == 0) base += sums[SELECT_THREADS - 1];
        __syncthreads();
    }
    if (thread == 0) {
        found[image] = count;
        mask_bytes[image] = base;
    }
}

// A thread is a cell: grid (ceil(cells / block)), any block.
extern "C" __global__ void saliency_probabilities(
    // inputs
    const float* __restrict__ logits,  // [cells], all images and channels
    i64 cells,
    // outputs
    float* __restrict__ probabilities  // [cells]
) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < cells) probabilities[i] = sigmoid(logits[i]);
}

// Where samples fall on one axis of a small map.
struct Tap {
    int cell, next;
    float part;
};

__device__ __forceinline__ Tap tap(float u, int cells) {
    u = fminf(fmaxf(u, 0.0f), (float)(cells - 1));
    float floor_ = floorf(u);
    int cell = (int)floor_;
    return {cell, cell + 1 < cells ? cell + 1 : cell, u - floor_};
}

__device__ __forceinline__ Tap shape_tap(int pixel, float low, float extent, int size) {
    return tap((((float)pixel + 0.5f) - low) / extent * (float)size - 0.5f, size);
}

__device__ __forceinline__ Tap saliency_tap(int pixel, float scale, float offset, float stride, int cells) {
    return tap((((float)pixel + 0.5f) * scale + offset) / stride - 0.5f, cells);
}

// One map at one column of pixels: its values at the two rows of cells around the pixel, kept from row to row.
struct Column {
    float upper, step;
    int cell;

    __device__ __forceinline__ float at(const float* map, int width, const Tap& across, int cell_, int next, float part) {
        if (cell_ != cell) {
            const float *top = map + cell_ * width, *bottom = map + next * width;
            upper = top[across.cell] + (top[across.next] - top[across.cell]) * across.part;
            float lower = bottom[across.cell] + (bottom[across.next] - bottom[across.cell]) * across.part;
            step = lower - upper;
            cell = cell_;
        }
        return upper + step * part;
    }
};

struct alignas(16) RowTaps {
    int shape_cell;
    float shape_part;
    int saliency_cell;
    float saliency_part;
};

// A warp is a tile of 32 x 32 pixels: grid (any, K, N), block MASK_THREADS. Shared: shape_size^2 floats.
extern "C" __global__ void __launch_bounds__(MASK_THREADS, BLOCKS_AT_ONCE) assemble_masks(
    // inputs
    const int* __restrict__ found,            // [N]
    const int* __restrict__ rows,             // [N, k] of shapes
    const int* __restrict__ labels,           // [N, k]
    const int* __restrict__ rects,            // [N, k, 4]
    const float* __restrict__ sampled_boxes,  // [N, k, 4] source pixels
    const u64* __restrict__ offsets,          // [N, k]
    const float* __restrict__ shapes,         // [N, k, shape_size, shape_size] logits
    const float* __restrict__ probabilities,  // [N, channels, height, width] of the saliency
    int shape_size, int channels, int height, int width, float scale_x, float scale_y, float offset_x,
    float offset_y, float stride, float threshold, u64 arena_bytes,
    // outputs
    u8* __restrict__ arena  // [N, arena_bytes]
) {
    DYNAMIC_SHARED(float, shape);  // [shape_size, shape_size] probabilities
    __shared__ RowTaps tile_rows[MASK_WARPS][WARP];
    i64 image = blockIdx.z, k = gridDim.y, detection = image * k + blockIdx.y;
    if ((int)blockIdx.y >= found[image]) return;
    Rect rect = {rects[4 * detection], rects[4 * detection + 1], rects[4 * detection + 2], rects[4 * detection + 3]};
    int row_bytes = (rect.x1 - rect.x0 + 7) / 8;
    u64 begin = offsets[detection];
    if (begin + (u64)(rect.y1 - rect.y0) * (u64)row_bytes > arena_bytes) return;  // the caller sees mask_bytes
    int tiles_across = (rect.x1 - rect.x0 + WARP - 1) / WARP;
    int tiles = tiles_across * ((rect.y1 - rect.y0 + WARP - 1) / WARP);
    if ((int)blockIdx.x * MASK_WARPS >= tiles) return;

    const float* logits = shapes + (image * k + rows[detection]) * shape_size * shape_size;
    for (int i = threadIdx.x; i < shape_size * shape_size; i += MASK_THREADS) shape[i] = sigmoid(logits[i]);
    __syncthreads();
    const float* saliency = probabilities + (image * channels + (channels > 1 ? labels[detection] : 0)) * height * width;
    const float* box = sampled_boxes + 4 * detection;
    float x1 = box[0], y1 = box[1], box_w = box[2] - x1, box_h = box[3] - y1;
    u8* out = arena + image * arena_bytes + begin;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    for (int tile = blockIdx.x * MASK_WARPS + warp; tile < tiles; tile += gridDim.x * MASK_WARPS) {
        int tile_x = tile % tiles_across, first_row = tile / tiles_across * WARP;  // in the crop
        int x = rect.x0 + tile_x * WARP + lane, y = rect.y0 + first_row + lane;
        Tap shape_down = shape_tap(y, y1, box_h, shape_size);
        Tap saliency_down = saliency_tap(y, scale_y, offset_y, stride, height);
        __syncwarp();  // the tile before is done with its rows
        tile_rows[warp][lane] = {shape_down.cell, shape_down.part, saliency_down.cell, saliency_down.part};
        __syncwarp();
        Tap shape_across = shape_tap(x, x1, box_w, shape_size);
        Tap saliency_across = saliency_tap(x, scale_x, offset_x, stride, width);
        Column from_shape = {0.0f, 0.0f, -1}, from_saliency = {0.0f, 0.0f, -1};
        int rows_here = rect.y1 - rect.y0 - first_row;
        if (rows_here > WARP) rows_here = WARP;
        u32 bits = 0;  // of row `lane`
        for (int row = 0; row < rows_here; row++) {
            RowTaps down = tile_rows[warp][row];
            int shape_next = down.shape_cell + 1 < shape_size ? down.shape_cell + 1 : down.shape_cell;
            int saliency_next = down.saliency_cell + 1 < height ? down.saliency_cell + 1 : down.saliency_cell;
            float value = from_shape.at(shape, shape_size, shape_across, down.shape_cell, shape_next, down.shape_part);
            value = value * from_saliency.at(saliency, width, saliency_across, down.saliency_cell, saliency_next,
                                             down.saliency_part);
            u32 row_bits = __ballot_sync(ALL_LANES, x < rect.x1 && value >= threshold);
            if (lane == row) bits = row_bits;
        }
        if (lane < rows_here) {
            u8* row_out = out + (i64)(first_row + lane) * row_bytes;
            for (int byte = 0; byte < WARP / 8 && tile_x * (WARP / 8) + byte < row_bytes; byte++) {
                row_out[tile_x * (WARP / 8) + byte] = (u8)(bits >> (8 * byte));
            }
        }
    }
}
