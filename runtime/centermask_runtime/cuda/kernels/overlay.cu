// SPDX-License-Identifier: Apache-2.0
// Masks and boxes onto the frame, as reference/overlay.py without its labels.
//
// Every pixel goes through the instances from the worst to the best: first all masks, then all boxes, as there. A mask
// is blended with cv2.addWeighted's arithmetic (one fused multiply-add, asked for by name) and its contour painted; a
// box is drawn with cv2.rectangle's round pen, whose half widths come from the host.
#include "common.cuh"

constexpr int DRAW_W = 32, DRAW_H = 8;  // block
constexpr int COLOURS = 3;
constexpr int PEN_BITS = 4;  // of each half width
constexpr int ROW_STEP = 5;  // colour numbers from one row of cells to the next
constexpr int PLACE_BITS = 24;  // of an entry of `nearby`; the colour is above them

struct Pen {
    int radius;
    u64 half_widths;  // PEN_BITS each: how far the pen reaches at this distance from its middle

    __device__ __forceinline__ int half_width(int distance) const {
        return (int)(half_widths >> (PEN_BITS * distance)) & ((1 << PEN_BITS) - 1);
    }
    // An edge runs along `along` from first to last, at `across` = edge.
    __device__ __forceinline__ bool touches(int across, int edge, int along, int first, int last) const {
        int distance = across < edge ? edge - across : across - edge;
        if (distance > radius) return false;
        int reach = half_width(distance);
        return first - reach <= along && along <= last + reach;
    }
};

struct Outline {
    int left, top, right, bottom;  // pixels, inclusive
};

__device__ __forceinline__ Outline outline_of(const float* box) {  // halves go to even, as Python rounds
    Outline o = {(int)rintf(box[0]), (int)rintf(box[1]), (int)rintf(box[2]) - 1, (int)rintf(box[3]) - 1};
    if (o.right < o.left) o.right = o.left;
    if (o.bottom < o.top) o.bottom = o.top;
    return o;
}

// The colour of a place: cells of the largest power of two that fits into the rectangle's shorter side.
__device__ __forceinline__ int place_number(const int* rect) {
    int width = rect[2] - rect[0], height = rect[3] - rect[1];
    int side = width < height ? width : height;
    int shift = side > 1 ? 31 - __clz(side) : 0;
    return ((rect[0] + rect[2]) / 2 >> shift) + ROW_STEP * ((rect[1] + rect[3]) / 2 >> shift);
}

struct PackedMask {
    const u8* bits;
    int width, height, row_bytes;

    __device__ __forceinline__ bool at(int y, int x) const {
        if (y < 0 || y >= height || x < 0 || x >= width) return false;
        return bits[(i64)y * row_bytes + x / 8] >> (x % 8) & 1;
    }
    __device__ __forceinline__ bool inner(int y, int x) const {  // no neighbour is outside the mask
        for (int dy = -1; dy <= 1; dy++) {
            for (int dx = -1; dx <= 1; dx++) {
                if (!at(y + dy, x + dx)) return false;
            }
        }
        return true;
    }
};

// A thread is a pixel: grid (ceil(frame_w / DRAW_W), ceil(frame_h / DRAW_H), N), block (DRAW_W, DRAW_H).
// Shared: k ints.
extern "C" __global__ void __launch_bounds__(DRAW_W* DRAW_H) draw_instances(
    // inputs
    const int* __restrict__ found,     // [N]
    const int* __restrict__ rects,     // [N, k, 4]
    const float* __restrict__ boxes,   // [N, k, 4] source pixels, inside the frame
    const u64* __restrict__ offsets,   // [N, k]
    const u8* __restrict__ arena,      // [N, arena_bytes]
    const int* __restrict__ numbers,   // [N, k] that choose colours; none: place_number
    const u8* __restrict__ palette,    // [palette_size, 3] BGR
    u64 arena_bytes, int k, int palette_size, int with_masks, int with_boxes, float keep, float tint, int pen_radius,
    u64 pen_half_widths, i64 pitch, i64 image_stride, int frame_h, int frame_w,
    // outputs
    u8* __restrict__ frames  // [N] frames of image_stride bytes: [frame_h, pitch] BGR, drawn upon
) {
    DYNAMIC_SHARED(int, nearby);  // [k] instances that touch this block's pixels, and their colours, worst first
    __shared__ int shared_near;
    i64 image = blockIdx.z;
    int block_x = blockIdx.x * DRAW_W, block_y = blockIdx.y * DRAW_H;
    Pen pen = {pen_radius, pen_half_widths};
    if (threadIdx.y == 0) {  // one warp keeps the order
        int lane = threadIdx.x, count = found[image], listed = 0;
        for (int first = count - 1; first >= 0; first -= WARP) {
            int i = first - lane;
            bool touches = false;
            int colour = 0;
            if (i >= 0) {
                const int* rect = rects + 4 * (image * k + i);
                colour = (numbers ? numbers[image * k + i] : place_number(rect)) % palette_size;
                if (colour < 0) colour += palette_size;
                Outline o = outline_of(boxes + 4 * (image * k + i));
                bool mask_near = rect[0] < block_x + DRAW_W && rect[2] > block_x && rect[1] < block_y + DRAW_H &&
                                 rect[3] > block_y;
                bool box_near = o.left - pen.radius < block_x + DRAW_W && o.right + pen.radius >= block_x &&
                                o.top - pen.radius < block_y + DRAW_H && o.bottom + pen.radius >= block_y;
                touches = mask_near || box_near;
            }
            u32 near = __ballot_sync(ALL_LANES, touches);
            if (touches) nearby[listed + __popc(near & ((1u << lane) - 1u))] = i | colour << PLACE_BITS;
            listed += __popc(near);
        }
        if (lane == 0) shared_near = listed;
    }
    __syncthreads();
    int x = block_x + threadIdx.x, y = block_y + threadIdx.y;
    if (x >= frame_w || y >= frame_h || shared_near == 0) return;
    u8* pixel = frames + image * image_stride + y * pitch + (i64)x * COLOURS;
    float colour[COLOURS];
    for (int c = 0; c < COLOURS; c++) colour[c] = (float)pixel[c];
    auto paint = [&](int entry) {
        const u8* chosen = palette + (entry >> PLACE_BITS) * COLOURS;
        for (int c = 0; c < COLOURS; c++) colour[c] = (float)chosen[c];
    };
    auto blend = [&](int entry) {
        float under[COLOURS];
        for (int c = 0; c < COLOURS; c++) under[c] = colour[c];
        paint(entry);
        for (int c = 0; c < COLOURS; c++) colour[c] = rintf(__fmaf_rn(under[c], keep, colour[c] * tint));
    };
    for (int i = 0; with_masks && i < shared_near; i++) {
        i64 instance = image * k + (nearby[i] & ((1 << PLACE_BITS) - 1));
        const int* rect = rects + 4 * instance;
        int width = rect[2] - rect[0], height = rect[3] - rect[1];
        PackedMask mask = {arena + image * arena_bytes + offsets[instance], width, height, (width + 7) / 8};
        if (offsets[instance] + (u64)height * (u64)mask.row_bytes > arena_bytes) continue;
        if (!mask.at(y - rect[1], x - rect[0])) continue;
        if (mask.inner(y - rect[1], x - rect[0])) {
            blend(nearby[i]);
        } else {
            paint(nearby[i]);
        }
    }
    for (int i = 0; with_boxes && i < shared_near; i++) {
        i64 instance = image * k + (nearby[i] & ((1 << PLACE_BITS) - 1));
        Outline o = outline_of(boxes + 4 * instance);
        if (pen.touches(y, o.top, x, o.left, o.right) || pen.touches(y, o.bottom, x, o.left, o.right) ||
            pen.touches(x, o.left, y, o.top, o.bottom) || pen.touches(x, o.right, y, o.top, o.bottom)) {
            paint(nearby[i]);
        }
    }
    for (int c = 0; c < COLOURS; c++) pixel[c] = (u8)colour[c];
}
