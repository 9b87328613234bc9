# SPDX-License-Identifier: Apache-2.0
"""The runtime runs where the training stack is not installed."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import centermask_runtime

pytestmark = pytest.mark.process


MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(centermask_runtime.__path__, "centermask_runtime.")
    if not module.ispkg
)
TRAINING = {"torch", "lightning_fabric", "pycocotools", "centermask", "centermask_export", "matplotlib", "safetensors"}
SCRIPT = """
import importlib, json, sys
sys.path[:0] = {path}
for name in {modules}:
    importlib.import_module(name)
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def loaded_by(modules):
    """Top-level packages in a fresh interpreter after the imports. Nothing else may be printed by them."""
    path = [entry for entry in sys.path if entry]
    script = SCRIPT.format(path=path, modules=modules)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if done.returncode and "ModuleNotFoundError: No module named" in done.stderr:
        missing = done.stderr.strip().rsplit("'", 2)[1]
        if not missing.startswith("centermask"):
            pytest.skip(f"{modules[-1]} needs {missing}, which is not installed")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("package", ["centermask_runtime", "centermask"])
def test_a_package_alone_loads_no_third_party_code(package):
    assert not loaded_by([package]) & {*TRAINING - {"centermask"}, "numpy", "cv2", "onnxruntime", "av", "click", "PIL"}


def test_the_public_class_loads_no_torch_and_no_back_end():
    loaded = loaded_by(["centermask_runtime.model"])
    assert not loaded & {*TRAINING, "onnxruntime", "openvino", "av", "click", "PIL"}


@pytest.mark.parametrize("module", ["centermask_runtime", *MODULES])
def test_a_runtime_module_loads_nothing_of_the_training_stack(module):
    assert not loaded_by([module]) & TRAINING
