# SPDX-License-Identifier: Apache-2.0
"""Whether two checkouts of this project compute the same, to the last bit, for changes that must not change results.

    python benchmarks/same_results.py --record before.json --checkout OLD    # as it was
    python benchmarks/same_results.py --check before.json --checkout NEW     # as it is: exit code 1 if anything differs

Everything is asked of the command line, as `python -m centermask` runs it, so the packages may be laid out in any way.
Code is taken from the checkout alone: a command that imported a centermask module from elsewhere, such as an editable
install, ends the run. Recorded are, of the released model nuclei_dla_46c and the data in the checkout:

predict    objects, the sum of their areas, the hash of predictions.json, and of the drawn pictures' pixels: the weights
           in PyTorch and the .onnx made of them on samples/images, the .onnx on the first frames of the sample video
val        every metric that --json prints, of the .onnx on the tests' nuclei
train      two short trainings on the tests' nuclei, a narrow network from scratch with all augmentations, and the
           released weights trained on in bf16: names and bytes of the tensors in last.safetensors; the columns of
           results.csv but for times and memory; the specification and config in the weights file
export     peaks and heads, fp32 and fp16: the graph; the graph without the names of nodes and inner tensors; the
           specification; how far it is from the weights, as --json prints it

A hash says that something changed, not by how much. Two files are not hashed as they are: an .onnx carries torch's
notes, with the path and line number of each piece of source, so equal code in another folder gives other bytes, and
safetensors writes its metadata in any order. The notes, the provenance in a specification and the version of the
producer are left out. Not covered: GPUs, engines, OpenVINO, int8, dynamic sizes, error messages, Python's interface.

Runs on one thread where the command line allows it. Floats differ between processors and versions of PyTorch and ONNX
Runtime, so both sides belong on one machine; a warning says what is not as it was recorded. Takes 2 minutes a side.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import click
import cv2
import onnx
import yaml
from rich.console import Console
from rich.table import Table
from safetensors import safe_open

MODEL = "nuclei_dla_46c"
NUCLEI = ("tests/assets/nuclei", "tests/data/nuclei")  # the first that is there
FRAMES = 30  # of the sample video
TRAININGS = {
    "train from scratch": "--config configs/dla_46c.yaml --steps 40 --imgsz 128 --workers 0"
    " --set model.head_channels=16 --set model.shape_size=8 --set model.max_detections=20 --set train.precision=32-true"
    " --set train.lr_batch=null --set train.warmup_steps=5 --set train.val_every=50 --set train.multi_scale=0.25"
    " --set train.loss.mask_grid=8 --set train.augment.mosaic=0.5 --set train.augment.copy_paste=0.5"
    " --set train.augment.invert=0.3 --set train.augment.rotate_90=true --set train.augment.flip_vertical=0.5",
    "train on": f"--config configs/{MODEL}.yaml --weights {MODEL} --steps 4 --imgsz 256 --workers 1",
}
ONE_THREAD = ("--device", "cpu", "--threads", "1")
PACKAGES = ("numpy", "opencv-python", "av", "onnxruntime", "torch", "onnx", "onnxscript", "pycocotools", "safetensors")
# As `python -m centermask`, and then a look at where its modules came from.
LAUNCH = """
import os, runpy, sys
try:
    runpy.run_module("centermask", run_name="__main__", alter_sys=True)
finally:
    here = os.path.realpath(os.getcwd()) + os.sep
    files = [getattr(m, "__file__", None) for name, m in list(sys.modules.items()) if name.startswith("centermask")]
    foreign = sorted({file for file in files if file and not os.path.realpath(file).startswith(here)})
    if foreign:
        sys.exit(f"{here} was to be run, but modules came from elsewhere: {', '.join(foreign[:3])}")
"""

Results = dict[str, Any]  # what it is -> a number or a hash


def run(checkout: Path, *arguments: str) -> str:
    """One command of the checkout -> the last line of its stdout. Raises ClickException with its words on failure."""
    start = time.perf_counter()
    roots = [checkout, *sorted({found.parents[1] for found in checkout.glob("*/centermask*/__init__.py")})]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots)), "OMP_NUM_THREADS": "1"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": os.devnull}  # what names no weights starts at random
    command = [sys.executable, "-c", LAUNCH, *arguments]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise click.ClickException(f"`centermask {' '.join(arguments)}` failed in {checkout}:\n{said}")
    click.echo(f"{time.perf_counter() - start:6.1f} s  {' '.join(arguments[:5])} ...", err=True)
    return (done.stdout.splitlines() or [""])[-1]


def measure(checkout: Path) -> Results:
    nuclei = next((folder for folder in NUCLEI if (checkout / folder).is_dir()), None)
    if nuclei is None:
        raise click.ClickException(f"{checkout} has neither {' nor '.join(NUCLEI)}; name a checkout by --checkout.")
    found: dict[str, Results] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for level, precision in itertools.product(("peaks", "heads"), ("fp32", "fp16")):
            output = folder / f"{level}_{precision}.onnx"
            found[f"export {level} {precision}"] = export(checkout, output, "--graph", level, "--precision", precision)
        model, clip = str(folder / "peaks_fp32.onnx"), folder / "clip.mp4"
        copy_packets(checkout / "samples" / "nuclei_scan.mp4", clip, FRAMES)
        found["predict weights, images"] = predict(checkout, folder / "1", "--model", MODEL)
        found["predict onnx, images"] = predict(checkout, folder / "2", "--model", model)
        found["predict onnx, video"] = predict(checkout, folder / "3", "--model", model, "--no-save", source=str(clip))
        metrics = json.loads(run(checkout, "val", "--model", model, "--data", nuclei, "--json", *ONE_THREAD))
        found |= {f"val {kind}": values for kind, values in metrics.items()}
        for training, arguments in TRAININGS.items():
            found[training] = train(checkout, folder / training, *arguments.split(), "--data", nuclei)
    return {f"{what}: {key}": value for what, results in found.items() for key, value in results.items()}


def predict(checkout: Path, output: Path, *arguments: str, source: str = "samples/images") -> Results:
    run(checkout, "predict", *arguments, "--source", source, "--output", str(output), *ONE_THREAD)
    predictions = json.loads((output / "predictions.json").read_text())
    found = predictions["annotations"]
    results = {"objects": len(found), "area": sum(one["area"] for one in found), "predictions": digest(predictions)}
    pictures = [cv2.imread(str(path)) for path in sorted(output.glob("*.png"))]
    return results | ({"pictures": digest(*map(array_bytes, pictures))} if pictures else {})


def array_bytes(array: Any) -> bytes:
    return f"{array.dtype} {array.shape}".encode() + bytes(array.tobytes())


def train(checkout: Path, output: Path, *arguments: str) -> Results:
    where = ("--output", str(output.parent), "--name", output.name, "--device", "cpu")
    run(checkout, "train", *arguments, *where, "--batch", "2", "--no-plots", "--quiet")
    rows = list(csv.DictReader((output / "results.csv").read_text().splitlines()))
    with safe_open(output / "weights" / "last.safetensors", framework="np") as file:
        tensors = [name.encode() + array_bytes(file.get_tensor(name)) for name in sorted(file.keys())]
        specification = without_provenance(file.metadata())
    return {
        "tensors": digest(*tensors),
        "results.csv": digest([{key: row[key] for key in row if key not in ("seconds", "memory_gib")} for row in rows]),
        "specification": digest(specification),
    }


def export(checkout: Path, output: Path, *arguments: str) -> Results:
    report = json.loads(run(checkout, "export", *arguments, "--model", MODEL, "--output", str(output), "--json"))
    model = onnx.load(output)
    results = {
        "specification": digest(without_provenance({entry.key: entry.value for entry in model.metadata_props})),
        "parity": digest({key: value for key, value in report.items() if key != "output"}),
    }
    remove_notes(model)
    results["graph"] = digest(model.SerializeToString(deterministic=True))
    remove_names(model.graph)
    return results | {"graph without names": digest(model.SerializeToString(deterministic=True))}


def remove_notes(model: onnx.ModelProto) -> None:
    """Takes out what says who made the model where: metadata of all parts, documentation, the producer's version."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.ClearField("producer_version")


def remove_names(graph: onnx.GraphProto) -> None:
    """Numbers the inner tensors in the order of their use; the names of the graph's inputs and outputs stay."""
    short = {"": ""} | {value.name: value.name for value in (*graph.input, *graph.output)}
    for node in graph.node:
        node.ClearField("name")
        for names in (node.input, node.output):
            names[:] = [short.setdefault(name, f"#{len(short)}") for name in names]
    for tensor in graph.initializer:
        tensor.name = short.setdefault(tensor.name, f"#{len(short)}")
    graph.initializer.sort(key=lambda tensor: tensor.name)
    graph.ClearField("value_info")


def copy_packets(video: Path, clip: Path, count: int) -> None:
    """The first `count` frames, as they are compressed."""
    with av.open(str(video)) as source, av.open(str(clip), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in itertools.islice(source.demux(source.streams.video[0]), count):
            packet.stream = stream
            target.mux(packet)


def without_provenance(metadata: Mapping[str, str]) -> dict[str, Any]:
    parts = {key: yaml.safe_load(text) for key, text in metadata.items()}  # YAML reads JSON as well
    return {key: {k: v for k, v in part.items() if k != "provenance"} for key, part in parts.items()}


def digest(*contents: Any) -> str:
    """Of bytes as they are, of everything else as JSON with sorted keys."""
    hashed = hashlib.sha256()
    for content in contents:
        hashed.update(content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode())
    return hashed.hexdigest()


def machine() -> dict[str, str]:
    """What the last bits of floats depend on besides the code."""
    cpuinfo = Path("/proc/cpuinfo")
    cpu = re.search(r"^model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {"cpu": cpu[1] if cpu else platform.machine(), "cores": str(os.cpu_count()), **versions}


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What differs, as it was and as it is; a result that only one side has differs, too."""
    pairs = {what: (str(before.get(what, "missing")), str(now.get(what, "missing"))) for what in {**before, **now}}
    return {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}


@click.command(help="Record what a checkout computes, or check that another one computes the same to the last bit.")
@click.option("--record", type=click.Path(path_type=Path, dir_okay=False), help="Write what is measured here.")
@click.option("--check", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Compare with this record.")
@click.option("--checkout", type=click.Path(path_type=Path, exists=True), default=Path(__file__).parents[1])
def main(record: Path | None, check: Path | None, checkout: Path) -> None:
    if (record is None) == (check is None):
        raise click.UsageError("Name a file to write by --record, or one to compare with by --check.")
    found, here = measure(checkout.resolve()), machine()
    line = {"benchmark": "same_results", "machine": here, "results": found}
    if record is not None:
        record.write_text(f"{json.dumps(line, indent=1)}\n")
        print(f"{len(found)} results are in {record}.")
        return
    assert check is not None
    recorded = json.loads(check.read_text())
    for what, (was, is_now) in compare(recorded["machine"], here).items():
        click.echo(f"Warning: recorded with {what} {was}, checked with {is_now}; floats may differ by that.", err=True)
    differing = compare(recorded["results"], found)
    if differing:
        table = Table("", "was", "is", title=f"Not as in {check}")
        for what, pair in differing.items():
            table.add_row(what, *(text[:20] for text in pair))
        Console().print(table)
    else:
        print(f"All {len(found)} results are equal to those in {check}.")
    print(json.dumps({**line, "differ": list(differing)}, separators=(",", ":")))
    if differing:
        raise click.ClickException(f"{len(differing)} results are not as in {check}: {'; '.join(differing)}.")


if __name__ == "__main__":
    main()
