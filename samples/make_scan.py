# SPDX-License-Identifier: Apache-2.0
"""Makes nuclei_scan.mp4: what a slide scanner's camera sees, panning over fields stitched from still images.

Needs the validation images of the nuclei data set (see samples/README.md). Neighbouring fields of one stain overlap
and are joined along the path where they differ least, so that seams run between cells; then a window glides over the
mosaic.

    python samples/make_scan.py --images datasets/nuclei/val --output samples/nuclei_scan.mp4
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # [H, W, 3] BGR

FRAME_HW = (540, 960)
OVERLAP = 40  # source pixels shared by neighbouring fields


@dataclass(frozen=True)
class Scene:
    rows: tuple[tuple[str, ...], ...]  # fields of one size, by file name without .png
    zoom: float  # frame pixels a source pixel, at least 1
    start_xy: tuple[float, float]  # where the window begins and ends: 0 is leftmost or topmost, 1 the opposite
    end_xy: tuple[float, float]
    auto_contrast: bool  # as fluorescence cameras show it


SCENES = (
    Scene(
        rows=(("1f6b7cead1534459", "3ebd2ab34ba86e51"), ("958114e5f37d5e14", "876423522bdec160")),
        zoom=1.0, start_xy=(0.0, 0.1), end_xy=(1.0, 0.9), auto_contrast=True,
    ),
    Scene(
        rows=(("54793624413c7d0e", "08275a5b1c2dfcd7"),),
        zoom=1.0, start_xy=(0.1, 0.0), end_xy=(0.5, 0.5), auto_contrast=False,
    ),
    Scene(
        rows=(
            ("6ab24e7e1f6c9fdd", "442c4eb0185698fe", "853a4c67900c411a"),
            ("a90401357d50e137", "40946065f7e4b603", "c0152b1a260e71f9"),
        ),
        zoom=1.5, start_xy=(0.0, 1.0), end_xy=(1.0, 0.0), auto_contrast=False,
    ),
    Scene(
        rows=(
            ("777f7c4269279951", "3441821ebea04fac", "f113626a04125d97", "1f0008060150b5b9"),
            ("6bc8cda54f5b66a2", "1bd0f2b3000b7c77", "86f9087eb1d0875f", "2c840a94d216f5ef"),
        ),
        zoom=1.2, start_xy=(1.0, 0.0), end_xy=(0.2, 1.0), auto_contrast=True,
    ),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample slide-scan video from still microscopy images.")
    parser.add_argument("--images", type=Path, required=True, help="folder with the nuclei validation images")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("nuclei_scan.mp4"))
    parser.add_argument("--seconds", type=float, default=12.0, help="length of the whole video")
    parser.add_argument("--fps", type=int, default=25)
    arguments = parser.parse_args()
    names = [name for scene in SCENES for row in scene.rows for name in row]
    missing = [name for name in names if not image_path(arguments.images, name).is_file()]
    if missing:
        sys.exit(f"{arguments.images} has no {missing[0]}.png; give --images the val folder of the nuclei data set.")
    frames_a_scene = round(arguments.seconds * arguments.fps / len(SCENES))
    write_video(arguments.output, arguments.fps, scan(arguments.images, frames_a_scene))
    print(f"{arguments.output}: {frames_a_scene * len(SCENES)} frames, {arguments.output.stat().st_size / 1e6:.1f} MB")


def scan(images: Path, frames_a_scene: int) -> Iterator[Image]:
    """All frames of the video, [540, 960, 3] each."""
    for scene in SCENES:
        slide = stitch_scene(images, scene)
        view_wh = FRAME_HW[1] / scene.zoom, FRAME_HW[0] / scene.zoom
        room_xy = slide.shape[1] - view_wh[0], slide.shape[0] - view_wh[1]
        assert scene.zoom >= 1 and min(room_xy) >= 0, (scene, slide.shape)
        for time in np.linspace(0, 1, frames_a_scene):
            x, y = (r * (a + (b - a) * time) for r, a, b in zip(room_xy, scene.start_xy, scene.end_xy, strict=True))
            yield window(slide, x, y, scene.zoom)


def window(slide: Image, x: float, y: float, zoom: float) -> Image:
    """The frame whose top left corner lies at (x, y) on the slide; cubic, so that slow pans stay smooth."""
    half = 0.5 / zoom - 0.5  # pixel centres are at +0.5 on both sides
    to_slide = np.array([[1 / zoom, 0, x + half], [0, 1 / zoom, y + half]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(slide, to_slide, FRAME_HW[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def stitch_scene(images: Path, scene: Scene) -> Image:
    """One mosaic of all fields; of fluorescence, with one background level and the contrast stretched."""
    fields = [[read_image(image_path(images, name)).astype(np.float32) for name in row] for row in scene.rows]
    if scene.auto_contrast:
        fields = [[field - np.median(field) for field in row] for row in fields]
    strips = [join_all(row).transpose(1, 0, 2) for row in fields]
    slide = join_all(strips).transpose(1, 0, 2)
    if scene.auto_contrast:
        slide = 12 + slide * (158 / max(float(np.percentile(slide, 99)), 1.0))
    return np.clip(np.rint(slide), 0, 255).astype(np.uint8)


def join_all(fields: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return functools.reduce(join, fields)


def join(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fields [H, *, 3] side by side, overlapping, cut along the path of least difference (Efros and Freeman 2001)."""
    ours, theirs = left[:, -OVERLAP:], right[:, :OVERLAP]
    cost = np.square(ours - theirs).sum(axis=2)
    for y in range(1, len(cost)):  # cost of the cheapest path from the top to each pixel
        above = np.pad(cost[y - 1], 1, constant_values=np.inf)
        cost[y] += np.minimum(np.minimum(above[:-2], above[1:-1]), above[2:])
    take_right = np.zeros(cost.shape, np.float32)
    x = int(cost[-1].argmin())
    for y in range(len(cost) - 1, -1, -1):
        low = max(x - 1, 0)
        x = x if y == len(cost) - 1 else low + int(cost[y, low : x + 2].argmin())
        take_right[y, x:] = 1
    weight = cv2.GaussianBlur(take_right, (0, 0), 2.0)[..., None]
    return np.concatenate([left[:, :-OVERLAP], ours * (1 - weight) + theirs * weight, right[:, OVERLAP:]], axis=1)


def image_path(images: Path, name: str) -> Path:
    return images / f"{name}.png"


def read_image(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        sys.exit(f"{path} is not an image that OpenCV can read.")
    return np.asarray(image, np.uint8)


def write_video(path: Path, fps: int, frames: Iterator[Image]) -> None:
    """H.264 in MP4 with its index in front, so that browsers start at once. Appears only when complete."""
    partial = path.with_name(f".{path.stem}.partial.mp4")
    try:
        with av.open(str(partial), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "slow"})
            stream.height, stream.width = FRAME_HW
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
            container.mux(stream.encode())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
