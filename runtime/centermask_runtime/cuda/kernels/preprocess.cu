// SPDX-License-Identifier: Apache-2.0
// A frame into the network input, as reference/preprocess.py: bilinear resize onto a grey canvas.
//
// The arithmetic is that of OpenCV's INTER_LINEAR on 8-bit images, so that the bytes are equal: weights of 11 bits from
// a float32 position that is computed in float64, columns first and exact, then rows with two truncating shifts.
// Beyond the left and right edge the weights become 1 and 0; beyond the upper and lower edge only the rows are clamped
// (both are the edge row, with their two weights), which rounds differently.
#include "common.cuh"

constexpr int WEIGHT_ONE = 1 << 11;
constexpr int CHANNELS = 3;

struct ResizeTap {
    int low, high;                // source rows or columns
    int weight_low, weight_high;  // of WEIGHT_ONE
};

__device__ __forceinline__ int clamp_index(int i, int count) { return i < 0 ? 0 : (i < count ? i : count - 1); }

__device__ __forceinline__ ResizeTap resize_tap(int pixel, double step, int count) {
    float position = (float)((pixel + 0.5) * step - 0.5);
    float floor_ = floorf(position);
    float part = position - floor_;
    int low = (int)floor_;
    ResizeTap tap;
    tap.low = clamp_index(low, count);
    tap.high = clamp_index(low + 1, count);
    tap.weight_high = (int)rintf(part * WEIGHT_ONE);
    tap.weight_low = (int)rintf((1.0f - part) * WEIGHT_ONE);
    return tap;
}

__device__ __forceinline__ u8 saturate_u8(int v) { return (u8)(v < 0 ? 0 : (v > 255 ? 255 : v)); }

struct Bgr {
    int value[CHANNELS];
};

struct BgrFrame {
    const u8* pixels;  // [frame_h, pitch]
    i64 pitch;

    __device__ __forceinline__ Bgr at(int y, int x) const {
        const u8* p = pixels + y * pitch + x * CHANNELS;
        return {{p[0], p[1], p[2]}};
    }
};

// Limited-range YCbCr in steps of 2^-20, as cv2.cvtColor converts it; a chroma sample serves 2 x 2 pixels.
struct Nv12Frame {
    const u8* luma;    // [frame_h, luma_pitch]
    const u8* chroma;  // [frame_h / 2, chroma_pitch] Cb, Cr
    i64 luma_pitch, chroma_pitch;
    int from_luma, cr_to_red, cr_to_green, cb_to_green, cb_to_blue;

    __device__ __forceinline__ Bgr at(int y, int x) const {
        constexpr int SHIFT = 20, HALF = 1 << (SHIFT - 1), BLACK = 16, NEUTRAL = 128;
        const u8* uv = chroma + (y >> 1) * chroma_pitch + (x & ~1);
        int above_black = (int)luma[y * luma_pitch + x] - BLACK;
        int grey = (above_black < 0 ? 0 : above_black) * from_luma + HALF;
        int cb = (int)uv[0] - NEUTRAL, cr = (int)uv[1] - NEUTRAL;
        return {{saturate_u8((grey + cb_to_blue * cb) >> SHIFT),
                 saturate_u8((grey + cr_to_green * cr + cb_to_green * cb) >> SHIFT),
                 saturate_u8((grey + cr_to_red * cr) >> SHIFT)}};
    }
};

template <class Frame>
__device__ __forceinline__ void letterbox_pixel(const Frame& frame, int frame_h, int frame_w, int resized_h,
                                                int resized_w, int left, int top, double step_x, double step_y,
                                                int pad, int y, int x, u8* out) {
    int row = y - top, column = x - left;
    if (row < 0 || row >= resized_h || column < 0 || column >= resized_w) {
        for (int c = 0; c < CHANNELS; c++) out[c] = (u8)pad;
        return;
    }
    ResizeTap across = resize_tap(column, step_x, frame_w);
    ResizeTap down = resize_tap(row, step_y, frame_h);
    Bgr upper_left = frame.at(down.low, across.low), upper_right = frame.at(down.low, across.high);
    Bgr lower_left = frame.at(down.high, across.low), lower_right = frame.at(down.high, across.high);
    for (int c = 0; c < CHANNELS; c++) {
        int upper = upper_left.value[c] * across.weight_low + upper_right.value[c] * across.weight_high;
        int lower = lower_left.value[c] * across.weight_low + lower_right.value[c] * across.weight_high;
        int sum = ((down.weight_low * (upper >> 4)) >> 16) + ((down.weight_high * (lower >> 4)) >> 16);
        out[c] = saturate_u8((sum + 2) >> 2);
    }
}

// A thread is a pixel of the input: grid (ceil(input_w / 32), ceil(input_h / 8), N), block (32, 8).
extern "C" __global__ void letterbox_bgr(
    // inputs
    const u8* __restrict__ frames,  // [N] frames of image_stride bytes: [frame_h, pitch] BGR
    i64 pitch, i64 image_stride, int frame_h, int frame_w, int resized_h, int resized_w, int left, int top,
    double step_x, double step_y,  // source pixels a network pixel
    int pad, int input_h, int input_w,
    // outputs
    u8* __restrict__ images  // [N, input_h, input_w, 3]
) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= input_w || y >= input_h) return;
    i64 image = blockIdx.z;
    BgrFrame frame = {frames + image * image_stride, pitch};
    letterbox_pixel(frame, frame_h, frame_w, resized_h, resized_w, left, top, step_x, step_y, pad, y, x,
                    images + ((image * input_h + y) * input_w + x) * CHANNELS);
}

// The same from two planes, so that a decoder's frame is never converted as a whole.
extern "C" __global__ void letterbox_nv12(
    // inputs
    const u8* __restrict__ luma,  // [N] planes of luma_stride bytes: [frame_h, luma_pitch]
    i64 luma_pitch, i64 luma_stride,
    const u8* __restrict__ chroma,  // [N] planes of chroma_stride bytes: [frame_h / 2, chroma_pitch] Cb, Cr
    i64 chroma_pitch, i64 chroma_stride, int from_luma, int cr_to_red, int cr_to_green, int cb_to_green,
    int cb_to_blue, int frame_h, int frame_w, int resized_h, int resized_w, int left, int top, double step_x,
    double step_y, int pad, int input_h, int input_w,
    // outputs
    u8* __restrict__ images  // [N, input_h, input_w, 3]
) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= input_w || y >= input_h) return;
    i64 image = blockIdx.z;
    Nv12Frame frame = {luma + image * luma_stride, chroma + image * chroma_stride, luma_pitch, chroma_pitch,
                       from_luma, cr_to_red, cr_to_green, cb_to_green, cb_to_blue};
    letterbox_pixel(frame, frame_h, frame_w, resized_h, resized_w, left, top, step_x, step_y, pad, y, x,
                    images + ((image * input_h + y) * input_w + x) * CHANNELS);
}
