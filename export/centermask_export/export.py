# SPDX-License-Identifier: Apache-2.0
"""The door to all exports: weights are exported and compared, an exported ONNX file becomes what is made of it.

Both need packages of an extra, and only weights need torch, so each is imported when it is known which of them it is.
"""

from __future__ import annotations

from pathlib import Path

from centermask.opening import find_model
from centermask_export.checks import Checks
from centermask_export.engines.build_engine import BuildProgress
from centermask_export.options import ExportOptions
from centermask_export.request import ExportReport
from centermask_runtime.errors import ModelError, UsageError
from centermask_runtime.packages import need


def export(
    model: str | Path,
    options: ExportOptions,
    output: Path | None = None,
    checks: Checks | None = None,
    *,
    progress: BuildProgress | None = None,
    command: str = "",
) -> ExportReport:
    """Writes an artefact of weights, of a released model or of an exported ONNX file.

    output: None is a name that says what the artefact is, beside the model; here, for a released one. progress: of an
    engine's build. command: what builds an engine on another machine, for the sentence that says that none can be built
    here. Raises UsageError before any work; CheckError, with its report, where the artefact differs from its source;
    ModelError, DataError, ExportError.
    """
    need("onnx", "export", "exporting")
    path, checks = find_model(model), checks or Checks()
    folder = path.parent if path == Path(model) else Path()  # a released model's folder is the package's
    if path.suffix == ".onnx":
        if checks.dataset is not None or checks.source is not None:
            raise UsageError(f"source and verify compare with weights, and {path} is exported already: leave them out.")
        from centermask_export.from_onnx import convert_onnx

        return convert_onnx(path, folder, output, options, progress=progress, command=command)
    if path.suffix != ".safetensors":
        raise ModelError(f"{path} is exported already: export the .safetensors weights that it came from.")
    for module in ("torch", "onnxscript"):
        need(module, "export", "exporting")
    from centermask_export.from_weights import export_model

    return export_model(path, folder, output, options, checks, progress=progress, command=command)
