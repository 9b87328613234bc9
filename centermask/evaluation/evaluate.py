# SPDX-License-Identifier: Apache-2.0
"""AP of a network on a data set, through the CPU's Pipeline. No torch here: an ONNX file needs none.

Users run that pipeline or GpuPipeline, which gives the same bits: here the outputs of a GPU's network come to the host.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from centermask.data.dataset import Dataset
from centermask.evaluation.coco_ap import Metrics, coco_ap, load_ground_truth
from centermask_runtime.errors import DataError, some
from centermask_runtime.networks.network import Network
from centermask_runtime.pipeline.cpu import Pipeline, postprocess
from centermask_runtime.pipeline.opening import pipeline_of
from centermask_runtime.pipeline.tiling import Tiling
from centermask_runtime.progress import Progress, silent
from centermask_runtime.selection import Selection
from centermask_runtime.spec import ModelSpec

SCORE_THRESHOLD = 0.05  # what AP counts; the paper's and CenterNet's
MASK_THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
THRESHOLD_IMAGES = 200  # enough to choose a threshold on, few enough for a large validation set


@dataclass(frozen=True)
class Evaluation:
    metrics: Metrics
    results: list[dict[str, Any]]  # COCO results, all images
    max_detections: int  # per image, that counted


@dataclass(frozen=True)
class Share:
    """What one of several processes does of an evaluation: each `processes`-th image, from the rank-th on."""

    rank: int = 0
    processes: int = 1
    join: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = list  # all processes' results, to each of them
    together: Callable[[], AbstractContextManager[object]] = nullcontext  # where an error of one ends them all

    def of(self, count: int, title: str, progress: Progress) -> Iterator[int]:
        mine = range(self.rank, count, self.processes)
        return progress(iter(mine), len(mine), title)


def evaluate(
    network: Network,
    dataset: Dataset,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    mask_threshold: float | None = None,
    tiling: Tiling | None = None,
    progress: Progress = silent,
    share: Share | None = None,
) -> Evaluation:
    """Measures box and mask AP at maxDets = K. Raises DataError when the data set's classes are not the model's.

    tiling: the images are seen in tiles, with K objects each, so that all objects of an image count. share: with
    several processes; each gets the whole result.
    """
    ids = category_ids_for(network.spec, dataset)
    pipeline = pipeline_of(network, {"conf": score_threshold, "mask_threshold": mask_threshold}, tiling)
    results: list[dict[str, Any]] = []
    share = share or Share()
    with share.together():
        for index in share.of(len(dataset), "validate", progress):
            instances = dataclasses.replace(pipeline(dataset.image(index, network.spec.values)), category_ids=ids)
            results += instances.to_coco(dataset.images[index].id)
    results = share.join(results)
    truth = load_ground_truth(dataset.annotation_file, converted=dataset.converted)
    limit = network.spec.max_detections
    if tiling is not None:
        limit = max([limit, *Counter(result["image_id"] for result in results).values()])
    return Evaluation(coco_ap(truth, results, limit), results, limit)


def threshold_images(dataset: Dataset) -> range:
    """The images that a mask threshold is chosen on, spread over the data set."""
    return range(0, len(dataset), -(-len(dataset) // THRESHOLD_IMAGES))


def choose_mask_threshold(
    network: Network, dataset: Dataset, *, progress: Progress = silent, share: Share | None = None
) -> tuple[float, dict[float, float]]:
    """Chooses the mask threshold of the highest mask AP, of equal ones the nearest to 0.5; with the AP of all tried.

    On at most THRESHOLD_IMAGES images, spread over the data set; where they show no object all AP are NaN, which is
    equal.
    """
    ids = category_ids_for(network.spec, dataset)
    chosen = threshold_images(dataset)
    pipeline = Pipeline(network, Selection.of(network.spec, conf=SCORE_THRESHOLD))
    results: dict[float, list[dict[str, Any]]] = {threshold: [] for threshold in MASK_THRESHOLDS}
    share = share or Share()
    with share.together():
        for place in share.of(len(chosen), "mask threshold", progress):
            index = chosen[place]
            outputs, letterbox = pipeline.infer(dataset.image(index, network.spec.values))
            for threshold, found in results.items():
                selection = dataclasses.replace(pipeline.selection, mask_threshold=threshold)
                instances = postprocess(outputs, 0, letterbox, network.spec, selection)
                found += dataclasses.replace(instances, category_ids=ids).to_coco(dataset.images[index].id)
    only = {dataset.images[index].id for index in chosen}
    truth = load_ground_truth(dataset.annotation_file, only, dataset.converted)
    limit = network.spec.max_detections
    results = {threshold: share.join(found) for threshold, found in results.items()}
    table = {t: coco_ap(truth, found, limit, kinds=("segm",))["segm"]["AP"] for t, found in results.items()}
    return _best_threshold(table), table


def _best_threshold(table: Mapping[float, float]) -> float:
    finite = {threshold: -1.0 if math.isnan(ap) else ap for threshold, ap in table.items()}
    highest = max(finite.values())
    return min((threshold for threshold, ap in finite.items() if ap == highest), key=lambda one: abs(one - 0.5))


def category_ids_for(spec: ModelSpec, dataset: Dataset) -> tuple[int, ...]:
    """Returns the data set's category id of each of the model's classes. Raises DataError when those are others."""
    if (ids := ids_by_name(spec.class_names, dataset)) is not None:
        return ids
    if spec.category_ids != dataset.category_ids:
        raise DataError(
            f"{dataset.annotation_file} has the category ids {some(dataset.category_ids)}, but the model "
            f"'{spec.name}' was trained for {some(spec.category_ids)} ({some(spec.class_names)}); "
            "use the data set it was trained for."
        )
    # names may be spelled otherwise; the same ones in another order, some of them twice, are other ids
    if spec.class_names != dataset.class_names and sorted(spec.class_names) == sorted(dataset.class_names):
        raise DataError(
            f"{dataset.annotation_file} numbers the classes {some(dataset.class_names)}, but the model '{spec.name}' "
            f"was trained for {some(spec.class_names)}; give them the ids that it was trained with."
        )
    return dataset.category_ids


def ids_by_name(names: Sequence[str], dataset: Dataset) -> tuple[int, ...] | None:
    """Returns the data set's category id of each name; None unless they are all of its names, each there once.

    The name decides, as each layout numbers the same classes in its own way: COCO from 1 or with gaps, YOLO from 0.
    """
    if len(set(names)) != len(names) or sorted(names) != sorted(dataset.class_names):
        return None
    id_of = dict(zip(dataset.class_names, dataset.category_ids, strict=True))
    return tuple(id_of[name] for name in names)
