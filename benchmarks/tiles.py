# SPDX-License-Identifier: Apache-2.0
"""Whether tiles cost accuracy: images of a data set as mosaics, seen in tiles, against the same images seen one by one.

    python benchmarks/tiles.py --data nuclei                       # every image of the split, in mosaics of 4 x 4
    python benchmarks/tiles.py --data nuclei --mosaics 2 --threads 1

A mosaic holds images of one size, side by side; places that no image is left for stay grey. Its tiles have the images'
longer side, so that the network sees both at one scale, but they overlap, so that seams run through images. Both are
measured on the mosaics' ground truth with as many objects per mosaic as there are:

alone      each image by itself; what was found is moved to its place in the mosaic
at once    the mosaic through the network in one piece, at the same scale: what tiles should come to (only PyTorch)
tiles      the mosaic in tiles

So `tiles` less `at once` is what tiles cost; `at once` less `alone` is what the mosaic itself changes, as an image in
it has neighbours where alone it has an edge. --gap puts grey between them, as around an image alone. The last column
counts what was found twice at the usual score of 0.25: pairs of objects of one class with masks of an IoU of 0.5 on.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_dataset, find_split
from centermask.evaluation.coco_ap import coco_ap, load_ground_truth
from centermask.evaluation.evaluate import SCORE_THRESHOLD, category_ids_for
from centermask.opening import open_network
from centermask_runtime.device import Device
from centermask_runtime.geometry import PAD_VALUE
from centermask_runtime.instances import Instances
from centermask_runtime.networks.network import Network
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.pipeline.tiles import TiledPipeline, tiled_selections
from centermask_runtime.pipeline.tiling import Tiling
from centermask_runtime.reference.overlap import mask_iou
from centermask_runtime.reference.rle import decode, encode_crop
from centermask_runtime.selection import Selection


@click.command()
@click.option("--model", default="nuclei", show_default=True)
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--split", default="val", show_default=True)
@click.option("--side", default=4, show_default=True, help="Images along a side of a mosaic.")
@click.option("--overlap", default=64, show_default=True, help="Pixels that tiles share at least.")
@click.option("--gap", default=0, show_default=True, help="Grey pixels between images.")
@click.option("--mosaics", type=int, help="Only so many of them.")
@click.option("--threads", type=int)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line, last.")
def main(
    model: str, data: Path, split: str, side: int, overlap: int, gap: int, mosaics: int | None, threads: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    dataset = load_dataset(find_split(find_dataset(data), split))
    groups = list(islice(mosaics_of(dataset, side), mosaics))
    with open_network(model, Device.of("cpu"), threads) as network:
        ids = category_ids_for(network.spec, dataset)
        alone = Pipeline(network, Selection.of(network.spec, conf=SCORE_THRESHOLD))
        frame, tile = tiled_selections(network.spec, {"conf": SCORE_THRESHOLD})
        results: dict[str, list[Instances]] = {"alone": [], "at once": [], "tiles": []}
        truth = Truth(dataset)
        for group in groups:
            mosaic, places = stitched(dataset, group, side, gap)
            frame_hw = mosaic.shape[0], mosaic.shape[1]
            truth.add(group, places, frame_hw)
            results["alone"].append(
                Instances.concatenate(
                    [
                        alone(dataset.image(index)).moved(place, frame_hw)
                        for index, place in zip(group, places, strict=True)
                    ]
                )
            )
            largest = max(dataset.image(group[0]).shape[:2])
            results["at once"] += at_once(network, mosaic, largest, len(group))
            tiling = Tiling(largest, overlap)
            results["tiles"].append(TiledPipeline(Pipeline(network, tile), tiling, frame)(mosaic))
    results = {name: found for name, found in results.items() if found}
    most = max(len(found) for each in results.values() for found in each)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mosaics.json"
        file.write_text(json.dumps(truth.to_dict()))
        with redirect_stdout(StringIO()):
            loaded = load_ground_truth(file)
            measured = {name: measure(loaded, each, ids, most) for name, each in results.items()}
    table = Table("", *measured["alone"], title=f"{model}: {sum(map(len, groups))} images in {len(groups)} mosaics")
    for name in [name for name in measured if name != "tiles"]:
        less = {key: measured["tiles"][key] - value for key, value in measured[name].items()}
        measured[f"tiles less {name}"] = less
    for name, values in measured.items():
        table.add_row(name, *(f"{value:.4f}" if isinstance(value, float) else str(value) for value in values.values()))
    Console(stderr=as_json, width=160).print(table)
    if as_json:
        click.echo(json.dumps(measured))


def at_once(network: Network, mosaic: NDArray[np.uint8], largest: int, images: int) -> list[Instances]:
    """What is in the mosaic, seen in one piece at the scale of its images; nothing of a network of one input size."""
    if not hasattr(network, "model"):
        return []
    from centermask.model.torch_network import TorchNetwork

    spec = network.spec
    scale = min(spec.input_hw) / largest
    height, width = (-(-round(side * scale) // spec.size_multiple) * spec.size_multiple for side in mosaic.shape[:2])
    large = replace(spec, input_hw=(height, width), max_detections=spec.max_detections * images)
    network.model.max_detections = large.max_detections
    try:
        return [Pipeline(TorchNetwork(network.model, large), Selection.of(large, conf=SCORE_THRESHOLD))(mosaic)]
    finally:
        network.model.max_detections = spec.max_detections


def mosaics_of(dataset: Dataset, side: int) -> Iterator[list[int]]:
    """Places of images of one size, side x side of them; the last of a size may be fewer."""
    sizes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, image in enumerate(dataset.images):
        sizes[image.height, image.width].append(index)
    for places in sizes.values():
        for first in range(0, len(places), side * side):
            yield places[first : first + side * side]


def stitched(
    dataset: Dataset, group: list[int], side: int, gap: int
) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """The mosaic uint8 [H, W, 3] BGR, and where each image of it has its upper left corner, x, y."""
    height, width = dataset.image(group[0]).shape[:2]
    rows = -(-len(group) // side)
    mosaic = np.full((height * rows + gap * (rows - 1), width * side + gap * (side - 1), 3), PAD_VALUE, np.uint8)
    places = [(place % side * (width + gap), place // side * (height + gap)) for place in range(len(group))]
    for index, (x, y) in zip(group, places, strict=True):
        mosaic[y : y + height, x : x + width] = dataset.image(index)
    return mosaic, places


class Truth:
    """The ground truth of mosaics, as COCO has it."""

    def __init__(self, dataset: Dataset) -> None:
        content = json.loads(Path(dataset.annotation_file).read_text())
        self._categories, self._of_image = content["categories"], defaultdict(list)
        for annotation in content["annotations"]:
            self._of_image[annotation["image_id"]].append(annotation)
        self._dataset = dataset
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, group: list[int], places: list[tuple[int, int]], frame_hw: tuple[int, int]) -> None:
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": f"{number}.png", "height": frame_hw[0], "width": frame_hw[1]})
        for index, (x, y) in zip(group, places, strict=True):
            for annotation in self._of_image[self._dataset.images[index].id]:
                mask = decode(annotation["segmentation"])
                rect = np.array([x, y, x + mask.shape[1], y + mask.shape[0]])
                left, top, width, height = annotation["bbox"]
                moved = {
                    "id": len(self._annotations) + 1, "image_id": number, "bbox": [left + x, top + y, width, height],
                    "segmentation": encode_crop(mask, rect, frame_hw),
                }  # fmt: skip
                self._annotations.append({**annotation, **moved})

    def to_dict(self) -> dict[str, Any]:
        return {"images": self._images, "annotations": self._annotations, "categories": self._categories}


def measure(truth: Any, found: list[Instances], ids: tuple[int, ...], most: int) -> dict[str, float | int]:
    results = []
    for number, instances in enumerate(found, 1):
        for result in instances.to_coco(number):
            results.append({**result, "category_id": ids[0] if len(ids) == 1 else result["category_id"]})
    metrics = coco_ap(truth, results, most)
    twice = 0
    for instances in found:
        good = instances.select(instances.scores >= 0.25)
        iou = np.triu(mask_iou(good.masks, good.masks), 1) * (good.labels[:, None] == good.labels[None])
        twice += int((iou >= 0.5).sum())
    return {
        "mask AP": float(metrics["segm"]["AP"]), "mask AP50": float(metrics["segm"]["AP50"]),
        "mask AP75": float(metrics["segm"]["AP75"]), "box AP": float(metrics["bbox"]["AP"]),
        "objects": sum(int((each.scores >= 0.25).sum()) for each in found), "twice": twice,
    }  # fmt: skip


if __name__ == "__main__":
    main()
