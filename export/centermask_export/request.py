# SPDX-License-Identifier: Apache-2.0
"""What a writer of a format is given and gives back, one signature for all of them; what whoever asked for it gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from centermask_export.engines.build_engine import BuildProgress
from centermask_export.engines.engine_file import BuiltEngine
from centermask_export.options import ExportOptions
from centermask_export.output import Target
from centermask_runtime.cuda.facts import Gpu
from centermask_runtime.spec import ModelSpec

if TYPE_CHECKING:
    from centermask_export.checks.ap import ApReport
    from centermask_export.checks.outputs import OutputsReport


@dataclass(frozen=True)
class Request:
    """One artefact to write: of what, where, and how."""

    source: Path  # the ONNX file, or the weights where the format is made of them
    spec: ModelSpec  # of the source, with the input size that was asked for
    target: Target
    options: ExportOptions
    gpu: Gpu | None = None  # that an engine is built on
    progress: BuildProgress | None = None

    @property
    def output(self) -> Path:
        """Where the artefact goes. An engine is named by the precision it was built in: see Target.path."""
        return self.target.path(self.options)


@dataclass(frozen=True)
class Written:
    """What a writer made."""

    output: Path
    precision: str
    engine: BuiltEngine | None = None


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how far it is from the weights, or the ONNX file, that it was made of."""

    written: Written
    outputs: OutputsReport | None = None  # None where an exported ONNX file became what does not run here
    ap: ApReport | None = None  # where a data set was given
    artefact_ran: bool = True  # what was compared is the artefact itself, not the ONNX file that it was made of
