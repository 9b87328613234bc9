// SPDX-License-Identifier: Apache-2.0
// The part of DeepStream's public interface that the parser uses, declared by hand so that it compiles without the SDK.
#pragma once

#include <vector>

#define NVDSINFER_MAX_DIMS 8

typedef struct {
  unsigned int numDims;
  unsigned int d[NVDSINFER_MAX_DIMS];
  unsigned int numElements;
} NvDsInferDims;

typedef enum { FLOAT = 0, HALF = 1, INT8 = 2, INT32 = 3 } NvDsInferDataType;

typedef struct {
  NvDsInferDataType dataType;
  union {
    NvDsInferDims inferDims;
    NvDsInferDims dims;
  };
  int bindingIndex;
  const char* layerName;
  void* buffer;
  int isInput;
} NvDsInferLayerInfo;

typedef struct {
  unsigned int width, height, channels;
} NvDsInferNetworkInfo;

typedef struct {
  unsigned int numClassesConfigured;
  std::vector<float> perClassPreclusterThreshold;
  std::vector<float> perClassPostclusterThreshold;
} NvDsInferParseDetectionParams;

typedef struct {
  unsigned int classId;
  float left, top, width, height, detectionConfidence;
  float* mask;
  unsigned int mask_width, mask_height, mask_size;
} NvDsInferInstanceMaskInfo;

typedef bool (*NvDsInferInstanceMaskParseCustomFunc)(std::vector<NvDsInferLayerInfo> const&,
                                                     NvDsInferNetworkInfo const&,
                                                     NvDsInferParseDetectionParams const&,
                                                     std::vector<NvDsInferInstanceMaskInfo>&);

// The SDK's macro checks the signature of a parser in another way.
#define CHECK_CUSTOM_INSTANCE_MASK_PARSE_FUNC_PROTOTYPE(name) \
  [[maybe_unused]] static const NvDsInferInstanceMaskParseCustomFunc checked_##name = name;
