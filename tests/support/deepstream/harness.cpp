// SPDX-License-Identifier: Apache-2.0
// Calls the parser as nvinfer does and lays its objects out flat, for ctypes.
#include "nvdsinfer_custom_impl.h"

extern "C" bool NvDsInferParseCustomCenterMask(std::vector<NvDsInferLayerInfo> const&, NvDsInferNetworkInfo const&,
                                               NvDsInferParseDetectionParams const&,
                                               std::vector<NvDsInferInstanceMaskInfo>&);

static NvDsInferLayerInfo layer(const char* name, NvDsInferDataType type, void* buffer, std::vector<unsigned> sides) {
  NvDsInferLayerInfo info{};
  info.dataType = type;
  info.layerName = name;
  info.buffer = buffer;
  info.inferDims.numDims = static_cast<unsigned>(sides.size());
  info.inferDims.numElements = 1;
  for (unsigned axis = 0; axis < sides.size(); ++axis) {
    info.inferDims.d[axis] = sides[axis];
    info.inferDims.numElements *= sides[axis];
  }
  return info;
}

// sides: K, S, channels, h, w, input width, input height, classes
// out: objects [K, 8] class, left, top, width, height, confidence, mask width, mask height; masks one after another
extern "C" int parse(float* scores, int* labels, float* boxes, float* shapes, float* saliency, const unsigned* sides,
                     float threshold, int without, float* objects, float* masks) {
  const unsigned k = sides[0], s = sides[1];
  std::vector<NvDsInferLayerInfo> layers{
      layer("saliency", FLOAT, saliency, {sides[2], sides[3], sides[4]}),  // any order
      layer("labels", INT32, labels, {k}), layer("scores", FLOAT, scores, {k}), layer("boxes", FLOAT, boxes, {k, 4}),
      layer("shapes", FLOAT, shapes, {k, s, s})};
  if (without >= 0) layers.erase(layers.begin() + without);
  NvDsInferParseDetectionParams params{sides[7], std::vector<float>(sides[7], threshold), {}};
  std::vector<NvDsInferInstanceMaskInfo> found;
  if (!NvDsInferParseCustomCenterMask(layers, {sides[5], sides[6], 3}, params, found)) return -1;
  for (const auto& object : found) {
    const float row[] = {static_cast<float>(object.classId), object.left, object.top, object.width, object.height,
                         object.detectionConfidence, static_cast<float>(object.mask_width),
                         static_cast<float>(object.mask_height)};
    for (float value : row) *objects++ = value;
    for (unsigned i = 0; i < object.mask_size / sizeof(float); ++i) *masks++ = object.mask[i];
    delete[] object.mask;  // as nvinfer does
  }
  return static_cast<int>(found.size());
}
