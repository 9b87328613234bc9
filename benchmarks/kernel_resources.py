# SPDX-License-Identifier: Apache-2.0
"""What each kernel takes of a GPU, as ptxas says, and the least time that its bytes allow. Needs nvcc and no GPU.

Registers, spills and shared memory come from `nvcc --resource-usage`. Occupancy is the part of an SM's threads that
fit, by registers, shared memory and block size. The roofline figure is computed: bytes that must move between a kernel
and device memory, each once, over the memory bandwidth in the data sheet. It is a lower bound and no measurement.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from centermask_runtime.cuda import kernels
from centermask_runtime.cuda.compile import first_message
from centermask_runtime.cuda.stages import BLOCK, LEAST_SORTED, RANK_BLOCK
from centermask_runtime.errors import UsageError

ARCHITECTURE = "sm_90"
BANDWIDTH = 3.35e12  # bytes a second, H100 SXM data sheet
SM_REGISTERS, SM_THREADS, SM_SHARED = 65536, 2048, 228 * 1024  # of sm_90, CUDA C++ Programming Guide, table 27
REGISTER_GRAIN = 256  # registers are given to a warp in these
RESERVED_SHARED = 1024  # bytes a block, by the system
WARP = 32
SMS, SCHEDULERS, CLOCK_HZ = 132, 4, 1.755e9  # H100 SXM: each scheduler issues one instruction of a warp a cycle
# Read off the PTX: the row loop of assemble_masks with its share of new cells, and the sigmoid of one cell.
MASK_INSTRUCTIONS, SIGMOID_INSTRUCTIONS = 40, 35
# The case of the figures: COCO's 80 classes at 512 x 512, K = 100, S = 32, a frame of 1080 x 1920 with 100 objects
CLASSES, INPUT, GRID, K, SHAPE, FRAME_HW, BOX = 80, 512, 128, 100, 32, (1080, 1920), 200
DYNAMIC_SHARED = {
    "rank_peaks": 8 * LEAST_SORTED,
    "select_detections": 8 * 128,
    "assemble_masks": 4 * SHAPE**2,
    "draw_instances": 4 * K,
}
USED = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers(?:.*?(\d+) bytes smem)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Resources:
    kernel: str
    registers: int
    spilled_bytes: int
    shared_bytes: int  # fixed, and dynamic in the case above
    occupancy: float


def resources(architecture: str = ARCHITECTURE) -> list[Resources]:
    """Of every kernel, in the order of the sources. Raises UsageError without an nvcc that knows the GPU."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise UsageError(
            "The kernels' resources were asked for, but nvcc is not on the PATH: install the CUDA toolkit."
        )
    with tempfile.TemporaryDirectory() as folder:
        unit = Path(folder) / "unit.cu"
        unit.write_text(kernels.translation_unit())
        command = [
            nvcc, "-cubin", f"-arch={architecture}", "--resource-usage", *kernels.OPTIONS, f"-I{kernels.FOLDER}",
            "-o", f"{folder}/unit.cubin", str(unit),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
        if done.returncode:
            raise UsageError(f"nvcc cannot compile the kernels for {architecture}: {first_message(done.stderr)}.")
    return resources_of(done.stdout + done.stderr)


def resources_of(usage: str) -> list[Resources]:
    """Of every kernel that ptxas reports on, for one architecture, in its order."""
    found = []
    for block in re.split(r"(?=Compiling entry function)", usage)[1:]:
        match = USED.search(block)
        assert match is not None, block
        name, stores, loads, registers, fixed = match.groups()
        shared = int(fixed or 0) + DYNAMIC_SHARED.get(name, 0)
        threads = RANK_BLOCK[0] if name == "rank_peaks" else BLOCK[0]
        found.append(
            Resources(
                name, int(registers), int(stores) + int(loads), shared, occupancy(int(registers), shared, threads)
            )
        )
    return found


def occupancy(registers: int, shared: int, threads: int) -> float:
    """Resident threads over the most that an SM takes."""
    of_warp = -(-registers * WARP // REGISTER_GRAIN) * REGISTER_GRAIN
    blocks = min(
        SM_REGISTERS // (of_warp * threads // WARP), SM_THREADS // threads, SM_SHARED // (shared + RESERVED_SHARED)
    )
    return round(blocks * threads / SM_THREADS, 2)


def roofline(channels: int) -> dict[str, tuple[int, float]]:
    """Stage -> bytes and microseconds that they take at least, for `channels` of saliency."""
    saliency = 4 * channels * GRID * GRID
    shapes = 4 * K * SHAPE * SHAPE
    frame = FRAME_HW[0] * FRAME_HW[1] * 3
    peaks = 4 * CLASSES * GRID * GRID
    masks = K * BOX * -(-BOX // 8)
    touched = min(frame, INPUT * (INPUT * FRAME_HW[0] // FRAME_HW[1]) * 4 * 3)  # four source pixels an input pixel
    stages = {
        "letterbox": touched + INPUT * INPUT * 3,
        "top_peaks (level heads)": peaks,
        "gather_heads (level heads)": 2 * shapes,
        "select": K * (4 + 4 + 16) * 2,
        "masks": 2 * saliency + shapes + min(saliency, 4 * K * 2 * GRID) + masks,
    }
    return {name: (nbytes, round(nbytes / BANDWIDTH * 1e6, 2)) for name, nbytes in stages.items()}


def issue_us(channels: int) -> float:
    """Microseconds that the instructions of both mask kernels take at least: every scheduler issues one each cycle."""
    pixels = K * BOX * BOX
    cells = channels * GRID * GRID
    warps_instructions = (pixels * MASK_INSTRUCTIONS + cells * SIGMOID_INSTRUCTIONS) / WARP
    return round(warps_instructions / (SMS * SCHEDULERS * CLOCK_HZ) * 1e6, 2)


@click.command()
@click.option("--arch", default=ARCHITECTURE, show_default=True, help="Architecture that nvcc compiles for.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead of the tables.")
def main(arch: str, as_json: bool) -> None:
    """Registers, spills, occupancy of each kernel; bytes and roofline time of each stage (computed, not measured)."""
    try:
        used = resources(arch)
    except UsageError as error:
        raise click.ClickException(str(error)) from error
    rooflines = {f"{channels} saliency channels": roofline(channels) for channels in (1, CLASSES)}
    issue = {f"{channels} saliency channels": issue_us(channels) for channels in (1, CLASSES)}
    if as_json:
        kernels_found = [asdict(one) for one in used]
        click.echo(json.dumps({"arch": arch, "kernels": kernels_found, "roofline": rooflines, "masks_issue_us": issue}))
        return
    table = Table("kernel", "registers", "spilled bytes", "shared bytes", "occupancy", title=f"ptxas, {arch}")
    for one in used:
        table.add_row(one.kernel, *map(str, (one.registers, one.spilled_bytes, one.shared_bytes, one.occupancy)))
    Console().print(table)
    table = Table("stage", "saliency", "bytes", "us at 3.35 TB/s", title="Roofline, computed: 100 objects at 1080p")
    for saliency, stages in rooflines.items():
        for name, (nbytes, time_us) in stages.items():
            table.add_row(name, saliency, f"{nbytes:,}", str(time_us))
    Console().print(table)
    for saliency, time_us in issue.items():
        click.echo(f"masks, {saliency}: the instructions take at least {time_us} us (computed)")


if __name__ == "__main__":
    main()
