# SPDX-License-Identifier: Apache-2.0
"""Everything that a GPU must prove, in one command, with a report: `make gpu-check`.

Runs the tests that have a GPU variant (kernels bit for bit, the driver layer, the pipeline, 10,000 frames without a
leak), then the stage benchmark, and writes report.json and report.md. Exit code 0 when all passed, 1 otherwise; without
a GPU it says so and does nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from centermask_runtime.cuda.device import open_driver
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.gpu_facts import gpu_facts
from centermask_runtime.partial_file import write_whole

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = ("test_cuda_*.py", "test_driver*.py", "test_gpu_*.py", "test_compile.py")


@dataclass(frozen=True)
class TestCounts:
    passed: int
    failed: int
    skipped: int
    failures: tuple[str, ...]
    skips: tuple[str, ...]


def run_tests() -> TestCounts:
    files = sorted({str(path) for pattern in PATTERNS for path in (ROOT / "tests").glob(pattern)})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *files]
        subprocess.run(command, cwd=ROOT, check=False)
        if not report.is_file():
            return TestCounts(0, 1, 0, ("pytest wrote no report: see its output",), ())
        return counts(ElementTree.parse(report).getroot())


def counts(root: ElementTree.Element) -> TestCounts:
    """What a JUnit report says."""
    failures, skips, passed = [], [], 0
    for case in root.iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        problem = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        skip = case.find("skipped")
        if problem is not None:
            failures.append(f"{name}: {(problem.get('message') or '').splitlines()[:1]}")
        elif skip is not None:
            skips.append(f"{name}: {skip.get('message')}")
        else:
            passed += 1
    return TestCounts(passed, len(failures), len(skips), tuple(failures), tuple(skips))


def run_benchmark(peaks: Path | None, heads: Path | None, device: int) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "benchmarks" / "stages.py"), "--json", "--device", str(device)]
    for level, path in (("--peaks", peaks), ("--heads", heads)):
        command += [level, str(path)] if path is not None else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip()}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def markdown(facts: dict[str, str], tests: TestCounts, benchmark: dict[str, Any]) -> str:
    lines = ["# GPU check", "", "| what | found |", "|---|---|"]
    lines += [f"| {name} | {fact} |" for name, fact in facts.items()]
    lines += ["", "## Tests", "", f"{tests.passed} passed, {tests.failed} failed, {tests.skipped} skipped.", ""]
    lines += [f"- FAILED {failure}" for failure in tests.failures]
    lines += [f"- skipped {skip}" for skip in tests.skips]
    lines += ["", "## Stages", ""]
    if "error" in benchmark:
        return "\n".join([*lines, f"Failed: {benchmark['error']}", ""])
    lines += ["| | level | stage | median ms | 95 % ms |", "|---|---|---|---|---|"]
    for group, key in (("kernels alone", "kernel_ms"), ("model", "model_ms")):
        for level, stages in benchmark[key].items():
            lines += [f"| {group} | {level} | {name} | {low} | {high} |" for name, (low, high) in stages.items()]
    return "\n".join([*lines, "", benchmark["verdict"], ""])


@click.command()
@click.option("--peaks", type=click.Path(path_type=Path), help="A model of graph level peaks to time too.")
@click.option("--heads", type=click.Path(path_type=Path), help="A model of graph level heads to time too.")
@click.option("--device", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the GPU.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/gpu_check"), show_default=True)
def main(peaks: Path | None, heads: Path | None, device: int, output: Path) -> None:
    """Runs the GPU tests and the stage benchmark; writes report.json and report.md."""
    try:
        open_driver(device=device).close()
    except CenterMaskError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    facts, tests = gpu_facts(), run_tests()
    benchmark = run_benchmark(peaks, heads, device)
    ok = not tests.failed and tests.passed > 0 and "error" not in benchmark
    values = {"ok": ok, "facts": facts, "tests": asdict(tests), "benchmark": benchmark}
    write_whole(output / "report.json", (json.dumps(values, indent=1) + "\n").encode())
    write_whole(output / "report.md", markdown(facts, tests, benchmark).encode())
    click.echo(f"{'All passed' if ok else 'FAILED'}: {output / 'report.md'}")
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
