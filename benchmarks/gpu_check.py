# SPDX-License-Identifier: Apache-2.0
"""Everything that a GPU must prove, in one command, with a report: `make gpu-check`.

Runs the tests that have a GPU variant (kernels bit for bit, the driver layer, the pipeline, 10,000 frames without a
leak), exports the released model at both graph levels for every back end that is installed, times kernels and networks,
and writes report.json and report.md, which list what was not run, and why. Exit code 0 when nothing failed, 1
otherwise. Without a GPU it says so and does nothing.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import onnxruntime

from centermask_runtime.cuda.facts import CUDA_PROVIDER
from centermask_runtime.cuda.providers import open_driver
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.partial_file import write_whole
from centermask_runtime.speed import REPORTED_FPS, REPORTED_ON

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = ("runtime/cuda/test_*.py", "runtime/pipeline/test_*.py", "runtime/networks/test_gpu_*.py", "*/test_gpu_*.py")
MODEL = "nuclei_dla_46c"
LEVELS = ("peaks", "heads")
KERNELS = "kernels alone"  # the benchmark without a network
VISIBLE = "CUDA_VISIBLE_DEVICES"
ENGINES = (("TensorRT", "tensorrt", "trt"), ("TensorRT-RTX", "tensorrt_rtx", "trt-rtx"))  # name, package, format
FACTS = "import json; from centermask_runtime.cuda.facts import gpu_facts; print(json.dumps(gpu_facts()))"

Environment = Mapping[str, str]
Models = dict[str, Path]  # graph level -> file


@dataclass(frozen=True)
class CaseCounts:
    passed: int
    failed: int
    skipped: int
    failures: tuple[str, ...]
    skips: tuple[str, ...]


@dataclass
class Report:
    facts: dict[str, str]
    tests: CaseCounts
    benchmarks: dict[str, dict[str, Any]] = field(default_factory=dict)  # back end -> what stages.py found
    failed: list[str] = field(default_factory=list)  # besides tests
    left_out: list[str] = field(default_factory=list)  # besides skipped tests: what, and why

    @property
    def failures(self) -> list[str]:
        none = [] if self.tests.passed or self.tests.failed else ["no test ran"]
        return [*none, *(f"test {one}" for one in self.tests.failures), *self.failed]

    @property
    def not_run(self) -> list[str]:
        return [*self.left_out, *(f"test {one}" for one in self.tests.skips)]

    @property
    def headline(self) -> str:
        """One clause; "All passed" only where nothing was left out."""
        if self.failures:
            return f"FAILED: {len(self.failures)}" + (f", and {len(self.not_run)} not run" if self.not_run else "")
        return f"What ran passed, but {len(self.not_run)} not run" if self.not_run else "All passed"


def environment_of(device: int, given: Environment) -> dict[str, str]:
    """The environment in which that GPU is the only one. `device` counts within what is visible already."""
    visible = [name.strip() for name in given[VISIBLE].split(",")] if VISIBLE in given else None
    return {**given, VISIBLE: str(device) if visible is None else visible[device]}


def run(arguments: Sequence[object], environment: Environment) -> subprocess.CompletedProcess[str]:
    """Python with arguments, from the root of the repository."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it says nothing"])[-1]


def run_tests(environment: Environment) -> CaseCounts:
    files = sorted({str(path) for pattern in PATTERNS for path in (ROOT / "tests").glob(pattern)})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *files]
        subprocess.run(command, cwd=ROOT, env=dict(environment), check=False)
        if not report.is_file():
            return CaseCounts(0, 1, 0, ("pytest wrote no report: see its output",), ())
        return counts(ElementTree.parse(report).getroot())


def counts(root: ElementTree.Element) -> CaseCounts:
    """What a JUnit report says."""
    failures, skips, passed = [], [], 0
    for case in root.iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        problem = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        skip = case.find("skipped")
        if problem is not None:
            failures.append(f"{name}: {' '.join((problem.get('message') or '').splitlines()[:1])}")
        elif skip is not None:
            skips.append(f"{name}: {skip.get('message')}")
        else:
            passed += 1
    return CaseCounts(passed, len(failures), len(skips), tuple(failures), tuple(skips))


def export_arguments(model: str | Path, format_: str, level: str, output: Path) -> list[str]:
    """Of `centermask`. An .onnx file has its graph level already."""
    graph = ["--graph", level] if format_ == "onnx" else []
    return ["export", "--model", str(model), "--format", format_, *graph, "--output", str(output)]


def export_networks(folder: Path, environment: Environment, report: Report) -> dict[str, Models]:
    """Back end -> the released model at both levels; what fails or cannot be is put into the report."""

    def export(name: str, model: str | Path, format_: str, level: str) -> dict[str, Path]:
        output = folder / f"{format_}-{level}{'.onnx' if format_ == 'onnx' else '.engine'}"
        done = run(["-m", "centermask", *export_arguments(model, format_, level, output)], environment)
        if done.returncode == 0:
            return {level: output}
        report.failed.append(f"export of {MODEL} for {name}, level {level}: {last_line(done.stderr)}")
        return {}

    onnx: Models = {}
    for level in LEVELS:
        onnx |= export("ONNX Runtime", MODEL, "onnx", level)
    networks: dict[str, Models] = {}
    if CUDA_PROVIDER in onnxruntime.get_available_providers():
        networks["ONNX Runtime"] = onnx
    else:
        report.left_out.append(f"networks on ONNX Runtime: {report.facts['onnxruntime_cuda']}")
    for name, package, format_ in ENGINES:
        if importlib.util.find_spec(package) is None:
            report.left_out.append(f"networks on {name}: {report.facts[package]}")
            continue
        networks[name] = {}
        for level, path in onnx.items():
            networks[name] |= export(name, path, format_, level)
    return {name: models for name, models in networks.items() if models}


def run_benchmark(name: str, models: Models, environment: Environment, report: Report) -> None:
    """Times the kernels, and networks where there are any."""
    chosen = [word for level, path in models.items() for word in (f"--{level}", path)]
    done = run([ROOT / "benchmarks" / "stages.py", "--json", *chosen], environment)
    if done.returncode:
        report.failed.append(f"times of {name}: {last_line(done.stderr)}")
    else:
        found: dict[str, Any] = json.loads(last_line(done.stdout))
        report.benchmarks[name] = found


def markdown(report: Report) -> str:
    tests = report.tests
    lines = ["# GPU check", "", f"{report.headline}.", "", "| what | found |", "|---|---|"]
    lines += [f"| {name} | {fact} |" for name, fact in report.facts.items()]
    lines += ["", f"Tests: {tests.passed} passed, {tests.failed} failed, {tests.skipped} skipped.", ""]
    for title, items in (("Failed", report.failures), ("Not run, and why", report.not_run)):
        lines += [f"## {title}", "", *(f"- {item}" for item in items or ["nothing"]), ""]
    lines += ["## Postprocess", ""]
    lines += [report.benchmarks[KERNELS]["target_verdict"] if KERNELS in report.benchmarks else "Not timed.", ""]
    return "\n".join([*lines, *_networks(report), *_stages(report)])


def _networks(report: Report) -> list[str]:
    lines = ["## Frames a second, 1080p to masks", ""]
    rows = [
        f"| {backend} | {level} | {one['fps']} | {one['fps_two_under_way']} | {one['ratio_to_reported']} | "
        f"{one['objects_found']} | {one['model']}, {one['network']}; {one['cuda_graph']} |"
        for backend, found in report.benchmarks.items()
        for level, one in found["models"].items()
    ]
    if not rows:
        return [*lines, "No network was timed.", ""]
    columns = "back end", "level", "FPS", "FPS, two under way", "ratio_to_reported", "objects found", "what ran"
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *rows, ""]
    lines += [
        f"ratio_to_reported is FPS, one frame at a time, over the {REPORTED_FPS} FPS of arXiv 2004.04446 (DLA-34 at "
        f"512 x 512, COCO), taken on {REPORTED_ON}: another model on another machine, so it shows no speed-up.",
        "",
    ]
    return [*lines, *(f"{backend}: {found['verdict']}" for backend, found in report.benchmarks.items()), ""]


def _stages(report: Report) -> list[str]:
    lines = ["## Stages", "", "| back end | level | stage | median ms | 95 % ms |", "|---|---|---|---|---|"]
    for backend, found in report.benchmarks.items():
        for level, stages in found["kernel_ms" if backend == KERNELS else "model_ms"].items():
            lines += [f"| {backend} | {level} | {name} | {low} | {high} |" for name, (low, high) in stages.items()]
    return [*lines, "", *dict.fromkeys(found["gaps"] for found in report.benchmarks.values()), ""]


@click.command()
@click.option("--peaks", type=click.Path(path_type=Path), help="A model of graph level peaks to time too.")
@click.option("--heads", type=click.Path(path_type=Path), help="A model of graph level heads to time too.")
@click.option("--device", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the GPU.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/gpu_check"), show_default=True)
def main(peaks: Path | None, heads: Path | None, device: int, output: Path) -> None:
    """Runs the GPU tests and the benchmarks; writes report.json and report.md."""
    try:
        open_driver(device=device).close()
    except CenterMaskError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    environment = environment_of(device, os.environ)
    facts = json.loads(last_line(run(["-c", FACTS], environment).stdout))
    report = Report(facts, run_tests(environment))
    run_benchmark(KERNELS, {}, environment, report)
    given = {level: path.absolute() for level, path in (("peaks", peaks), ("heads", heads)) if path is not None}
    if given:
        run_benchmark("given", given, environment, report)
    with tempfile.TemporaryDirectory() as folder:
        for name, models in export_networks(Path(folder), environment, report).items():
            run_benchmark(name, models, environment, report)
    values = {"headline": report.headline, "ok": not report.failures, "not_run": report.not_run}
    content = json.dumps(values | dataclasses.asdict(report), indent=1) + "\n"
    write_whole(output / "report.json", content.encode())
    write_whole(output / "report.md", markdown(report).encode())
    click.echo(f"{report.headline}: {output / 'report.md'}")
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
