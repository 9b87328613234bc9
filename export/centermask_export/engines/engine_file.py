# SPDX-License-Identifier: Apache-2.0
"""`<engine>.json` beside an engine: what a plain plan cannot carry, for the runtime's networks/engine_record.py."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centermask_runtime.networks.engine_record import record_path
from centermask_runtime.partial_file import PartialFile
from centermask_runtime.spec import ModelSpec

Profile = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]  # input name: smallest, best, largest


@dataclass(frozen=True)
class EngineDescription:
    spec: ModelSpec
    builder: str  # "TensorRT" or "TensorRT-RTX"
    builder_version: str
    targets: tuple[str, ...]  # architectures as sm86; empty: the builder's default
    gpu: str  # that it was built on, or for
    precision: str  # that most of the work has, as the builder says
    layer_precisions: dict[str, int]  # convolutions and matrix products of each precision
    precisions_from: str  # "inspector": of the built engine; "network": of the typed network before the build
    source_sha256: str  # of the ONNX file
    plan_sha256: str
    profiles: tuple[Profile, ...]
    options: dict[str, Any]  # that the builder was given


@dataclass(frozen=True)
class BuiltEngine:
    """What was written, for whoever reports it."""

    description: EngineDescription
    warnings: tuple[str, ...]


def write_engine(plan: bytes, path: Path, description: EngineDescription) -> None:
    """Writes the plan and its description; both or neither. Raises UsageError or CenterMaskError."""
    values = dataclasses.asdict(description)
    values["spec"] = json.loads(description.spec.to_json())
    values["profiles"] = [
        {name: dict(zip(("min", "opt", "max"), shapes, strict=True)) for name, shapes in profile.items()}
        for profile in description.profiles
    ]
    with PartialFile(path) as engine:
        engine.write(plan)
        with PartialFile(record_path(path)) as record:
            record.write((json.dumps(values, indent=1, sort_keys=True) + "\n").encode())
