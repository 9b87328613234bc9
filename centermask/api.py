# SPDX-License-Identifier: Apache-2.0
"""What Python code calls: CenterMask, which opens weights and released models too, and evaluation and export.

`from centermask import ...` is the way in; `train` is there too, from training/start.py. The functions do what the
commands do and take the words of their options. evaluate and export print nothing; train shows its progress unless it
is told to be quiet.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from centermask import opening
from centermask.released import released_models
from centermask_runtime import model as runtime
from centermask_runtime.arguments import check_function, check_text, number, path_of
from centermask_runtime.device import AUTO, Device
from centermask_runtime.errors import UsageError, did_you_mean
from centermask_runtime.packages import need
from centermask_runtime.pipeline.opening import PipelineOpener
from centermask_runtime.pipeline.tiling import Tiling
from centermask_runtime.progress import Progress, silent

if TYPE_CHECKING:
    from centermask.data.dataset import Dataset
    from centermask.evaluation.evaluate import Evaluation
    from centermask_export.checks.ap import ApReport
    from centermask_export.checks.outputs import OutputsReport


class CenterMask(runtime.CenterMask):
    """A model that finds objects with masks: an exported file, weights, or a released model by its name.

        model = CenterMask("nuclei")
        found = model("tissue.png")
        print(len(found), found.names, found.boxes)

    Weights (.safetensors) and .torchscript files run in PyTorch, which the extra `train` brings; all else is as in
    centermask_runtime.CenterMask, whose class it is a subclass of.
    """

    _open_pipeline: ClassVar[PipelineOpener] = staticmethod(opening.open_pipeline)

    @staticmethod
    def _is_name(model: str) -> bool:
        return model in released_models()


def evaluate(
    model: str | Path,
    data: str | Path | Dataset,
    *,
    split: str = "val",
    conf: float | None = None,
    mask_threshold: float | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    device: str | int | Device = AUTO,
    threads: int | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Measures box and mask AP of a model on a data set, as `centermask val` does.

        found = evaluate("model.onnx", "my_data")
        print(found.metrics["segm"]["AP"])

    data: a folder, a YOLO data.yaml, the name of a data set, or a Dataset; split: which part of it. conf: lowest score
    that counts, by default that of COCO's evaluation, far below the model's own. tile, overlap: as CenterMask has them.
    The result has `metrics`, "bbox" and "segm" -> "AP", "AP50", ..., and `results`, a list as COCO has it.
    Raises UsageError, DataError or ModelError.
    """
    need("pycocotools", "train", "computing AP")
    _check_measuring(split, progress)
    from centermask.evaluation import evaluate as evaluation

    tiling = Tiling.of(tile, overlap)
    dataset = _dataset(data, split)
    with opening.open_network(model, Device.of(device), threads) as network:
        lowest = evaluation.SCORE_THRESHOLD if conf is None else conf
        return evaluation.evaluate(
            network, dataset, score_threshold=lowest, mask_threshold=mask_threshold, tiling=tiling, progress=progress
        )


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and how far it is from the weights that it was made of."""

    output: Path
    precision: str
    outputs: OutputsReport | None = None  # None where it was made of an .onnx file
    ap: ApReport | None = None  # where it was verified on a data set


def export(
    model: str | Path,
    format: str = "onnx",
    *,
    output: str | Path | None = None,
    precision: str = "fp32",
    imgsz: int | tuple[int, int] | None = None,
    batch: int = 1,
    dynamic: bool = False,
    calib_data: str | Path | None = None,
    source: str | Path | None = None,
    verify: str | Path | Dataset | None = None,
    split: str = "val",
    max_ap_drop: float | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Exported:
    """Makes what another machine runs of weights, or of an .onnx file, and compares it with them: `centermask export`.

        print(export("best.safetensors", "openvino", precision="bf16").output)

    format: as `centermask formats` lists them. output: by default a file beside the model, whose name says what it is.
    imgsz: the input's side, or its height and width. dynamic: any batch size. calib_data: a folder of images, for int8.
    source: images to compare outputs on. verify: a data set; box and mask AP must not lose more than max_ap_drop on it.
    options: the other fields of ExportOptions, called as the command's options.
    Raises UsageError before any work, CheckError where the artefact differs, ModelError, DataError or ExportError.
    """
    need("onnx", "export", "exporting")
    from centermask_export.checks import MAX_AP_DROP, Checks
    from centermask_export.export import export as export_any
    from centermask_export.options import ExportOptions

    _check_measuring(split, progress)
    if max_ap_drop is not None:
        number("max_ap_drop", max_ap_drop, 0, 1)
    known = [field.name for field in dataclasses.fields(ExportOptions)]
    for name in options.keys() - set(known):
        raise UsageError(f"An export has no option '{name}'; {did_you_mean(name, known)}")
    wanted = ExportOptions(
        format=format, precision=precision, imgsz=None if imgsz is None else _size(imgsz), batch=batch,
        dynamic=dynamic, calib_data=None if calib_data is None else path_of(calib_data, "calib_data"), **options,
    )  # fmt: skip
    place = None if output is None else path_of(output, "output")
    images = None if source is None else path_of(source, "source")
    dataset = None if verify is None else _dataset(verify, split)
    drop = MAX_AP_DROP if max_ap_drop is None else max_ap_drop
    checks = Checks(images, dataset, drop, progress)
    report = export_any(model, wanted, place, checks)
    return Exported(report.written.output, report.written.precision, report.outputs, report.ap)


def _check_measuring(split: Any, progress: Any) -> None:
    check_text(split=split)
    check_function("progress", progress)


def _size(imgsz: Any) -> tuple[int, int]:
    sides = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    if not isinstance(sides, (tuple, list)) or len(sides) != 2 or not all(type(side) is int for side in sides):
        raise UsageError(f"imgsz must be one side, as 512, or height and width, as (480, 640), not {imgsz!r}.")
    return sides[0], sides[1]


def _dataset(data: str | Path | Dataset, split: str) -> Dataset:
    from centermask.data.dataset import Dataset, load_dataset
    from centermask.data.formats.layouts import find_dataset, find_split

    if isinstance(data, (str, os.PathLike)):
        return load_dataset(find_split(find_dataset(path_of(data, "A data set")), split))
    if not isinstance(data, Dataset):
        raise UsageError(f"A data set is a folder, a name or a Dataset, not {type(data).__name__}.")
    return data
