# SPDX-License-Identifier: Apache-2.0
"""`<engine>.json`: what an engine is, written beside it by the export, because an engine itself carries no metadata.

It names the SHA-256 of its engine: with the description of another one a plan would run and give nonsense.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from centermask_runtime.checksum import sha256_of
from centermask_runtime.errors import ModelError
from centermask_runtime.spec import ModelSpec

TEXTS = ("builder", "builder_version", "gpu", "precision", "source_sha256", "plan_sha256")


@dataclass(frozen=True)
class EngineRecord:
    spec: ModelSpec
    builder: str  # "TensorRT" or "TensorRT-RTX"
    builder_version: str
    gpu: str  # the GPU it was built on or for
    precision: str
    source_sha256: str  # of the ONNX file that it was built from
    plan_sha256: str  # of the engine
    version_compatible: bool = False  # the engine holds code for the host, which TensorRT runs only where allowed


def record_path(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.json")


def read_record(engine: Path) -> EngineRecord:
    """What lies beside an engine. Raises ModelError when the file is missing, damaged, or of another engine."""
    path = record_path(engine)
    again = "export the engine again, and copy both files together"
    if not path.is_file():
        raise ModelError(
            f"The engine {engine} has no {path.name} beside it, so its classes and input are unknown: {again}."
        )
    try:
        values = json.loads(path.read_text())
        spec = values["spec"]
        texts = {name: values[name] for name in TEXTS}
        version_compatible = bool(values.get("options", {}).get("version_compatible", False))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}, which describes the engine, is damaged: {again}.") from error
    if sha256_of(engine) != texts["plan_sha256"]:
        raise ModelError(f"{path} describes another engine than the {engine.name} that lies beside it: {again}.")
    return EngineRecord(
        ModelSpec.from_json(json.dumps(spec), str(path)), **{name: str(text) for name, text in texts.items()},
        version_compatible=version_compatible,
    )  # fmt: skip
