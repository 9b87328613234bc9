// SPDX-License-Identifier: Apache-2.0
// CenterMask's outputs -> DeepStream objects with masks: what nvinfer calls after each frame.
//
// A mask is sigma(shape) * sigma(saliency) inside the box (CenterMask, arXiv 2004.04446, section 3.3), sampled once per
// mask cell, bilinear, at cell centres, as centermask_runtime/reference/masks.py does per pixel. nvdsosd compares it with
// segmentation-threshold, which is the model's mask threshold.
//
// Build: make            (needs the headers of the DeepStream SDK; see Makefile)

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "nvdsinfer_custom_impl.h"

namespace {

constexpr int MAX_MASK_SIDE = 160;  // cells; a larger object's mask is stretched by nvdsosd

float sigmoid(float logit) { return std::isnan(logit) ? 0.0f : 1.0f / (1.0f + std::exp(-logit)); }

struct Tap {  // a sample between two cells of one axis
  int low, high;
  float part;
};

Tap tap(float u, int cells) {
  u = std::min(std::max(u, 0.0f), static_cast<float>(cells - 1));
  const int low = static_cast<int>(u);
  return {low, std::min(low + 1, cells - 1), u - static_cast<float>(low)};
}

float sample(const float* map, int width, const Tap& x, const Tap& y) {  // map [height, width]
  const float* top = map + y.low * width;
  const float* bottom = map + y.high * width;
  const float above = top[x.low] + (top[x.high] - top[x.low]) * x.part;
  const float below = bottom[x.low] + (bottom[x.high] - bottom[x.low]) * x.part;
  return above + (below - above) * y.part;
}

const NvDsInferLayerInfo* find(const std::vector<NvDsInferLayerInfo>& layers, const char* name, NvDsInferDataType type,
                               unsigned dims) {
  for (const NvDsInferLayerInfo& layer : layers)
    if (std::strcmp(layer.layerName, name) == 0) {
      if (layer.dataType == type && layer.inferDims.numDims == dims) return &layer;
      std::fprintf(stderr, "CenterMask: output '%s' has another type or rank than this parser expects\n", name);
      return nullptr;
    }
  std::fprintf(stderr, "CenterMask: the engine has no output '%s'\n", name);
  return nullptr;
}

}  // namespace

extern "C" bool NvDsInferParseCustomCenterMask(std::vector<NvDsInferLayerInfo> const& outputLayersInfo,
                                               NvDsInferNetworkInfo const& networkInfo,
                                               NvDsInferParseDetectionParams const& detectionParams,
                                               std::vector<NvDsInferInstanceMaskInfo>& objectList) {
  const auto* scores = find(outputLayersInfo, "scores", FLOAT, 1);      // [K]
  const auto* labels = find(outputLayersInfo, "labels", INT32, 1);      // [K]
  const auto* boxes = find(outputLayersInfo, "boxes", FLOAT, 2);        // [K, 4] xyxy, input pixels
  const auto* shapes = find(outputLayersInfo, "shapes", FLOAT, 3);      // [K, S, S] logits
  const auto* saliency = find(outputLayersInfo, "saliency", FLOAT, 3);  // [1 or C, h, w] logits
  if (!scores || !labels || !boxes || !shapes || !saliency) return false;

  const int count = scores->inferDims.d[0], side = shapes->inferDims.d[1];
  const int channels = saliency->inferDims.d[0], height = saliency->inferDims.d[1], width = saliency->inferDims.d[2];
  const float frame_w = static_cast<float>(networkInfo.width), frame_h = static_cast<float>(networkInfo.height);
  const float stride_x = frame_w / static_cast<float>(width), stride_y = frame_h / static_cast<float>(height);

  // sigma before sampling, as in training; the maps are small
  const float* logits = static_cast<const float*>(saliency->buffer);
  std::vector<float> area(static_cast<size_t>(channels) * height * width), shape(static_cast<size_t>(side) * side);
  std::transform(logits, logits + area.size(), area.begin(), sigmoid);

  for (int k = 0; k < count; ++k) {
    const float score = static_cast<const float*>(scores->buffer)[k];
    const int label = static_cast<const int*>(labels->buffer)[k];
    if (label < 0 || static_cast<size_t>(label) >= detectionParams.perClassPreclusterThreshold.size()) continue;
    if (!(score > 0.0f) || score < detectionParams.perClassPreclusterThreshold[label]) continue;
    const float* box = static_cast<const float*>(boxes->buffer) + 4 * k;
    const float box_w = box[2] - box[0], box_h = box[3] - box[1];
    // what is reported is cut at the input's edges; shapes are sampled in the box as predicted
    const float left = std::max(box[0], 0.0f), top = std::max(box[1], 0.0f);
    const float seen_w = std::min(box[2], frame_w) - left, seen_h = std::min(box[3], frame_h) - top;
    if (!(seen_w > 0.0f && seen_h > 0.0f) || !std::isfinite(box_w) || !std::isfinite(box_h)) continue;

    const float* own = static_cast<const float*>(shapes->buffer) + static_cast<size_t>(k) * shape.size();
    std::transform(own, own + shape.size(), shape.begin(), sigmoid);
    const float* map = area.data() + static_cast<size_t>(channels > 1 ? label : 0) * height * width;
    const int columns = std::min(static_cast<int>(std::ceil(seen_w)), MAX_MASK_SIDE);
    const int rows = std::min(static_cast<int>(std::ceil(seen_h)), MAX_MASK_SIDE);

    NvDsInferInstanceMaskInfo object{};
    object.classId = static_cast<unsigned>(label);
    object.detectionConfidence = score;
    object.left = left;
    object.top = top;
    object.width = seen_w;
    object.height = seen_h;
    object.mask_width = static_cast<unsigned>(columns);
    object.mask_height = static_cast<unsigned>(rows);
    object.mask_size = static_cast<unsigned>(sizeof(float)) * object.mask_width * object.mask_height;
    object.mask = new float[static_cast<size_t>(columns) * rows];  // nvinfer deletes it
    for (int i = 0; i < rows; ++i) {
      const float y = top + (static_cast<float>(i) + 0.5f) * seen_h / static_cast<float>(rows);
      const Tap shape_y = tap((y - box[1]) / box_h * static_cast<float>(side) - 0.5f, side);
      const Tap area_y = tap(y / stride_y - 0.5f, height);
      for (int j = 0; j < columns; ++j) {
        const float x = left + (static_cast<float>(j) + 0.5f) * seen_w / static_cast<float>(columns);
        const Tap shape_x = tap((x - box[0]) / box_w * static_cast<float>(side) - 0.5f, side);
        const Tap area_x = tap(x / stride_x - 0.5f, width);
        object.mask[i * columns + j] = sample(shape.data(), side, shape_x, shape_y) * sample(map, width, area_x, area_y);
      }
    }
    objectList.push_back(object);
  }
  return true;
}

CHECK_CUSTOM_INSTANCE_MASK_PARSE_FUNC_PROTOTYPE(NvDsInferParseCustomCenterMask)
