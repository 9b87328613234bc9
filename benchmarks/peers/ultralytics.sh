#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes ONNX files of Ultralytics' segmentation networks with random weights, in an environment of their own: Ultralytics
# is AGPL-3.0, and nothing of it is imported by CenterMask or goes into it.
#
#     benchmarks/peers/ultralytics.sh build/peers yolo11n-seg yolo26n-seg yolo11s-seg
set -euo pipefail
folder=${1:?name a folder, then networks}
shift
mkdir -p "$folder"
[[ -x $folder/venv/bin/python ]] || python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet ultralytics onnx
cd "$folder"
YOLO_CONFIG_DIR=$PWD MPLBACKEND=agg venv/bin/python - "$@" <<'PYTHON'
import sys

import torch
from ultralytics.nn.tasks import SegmentationModel

for name in sys.argv[1:]:
    torch.manual_seed(0)
    model = SegmentationModel(f"{name}.yaml", nc=80, verbose=False).eval().fuse()
    for module in model.modules():
        if hasattr(module, "export"):
            module.export, module.format = True, "onnx"
    torch.onnx.export(model, torch.zeros(1, 3, 640, 640), f"{name}.onnx", opset_version=17, dynamo=False)
    print(f"{name}.onnx")
PYTHON
