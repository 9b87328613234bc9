# SPDX-License-Identifier: Apache-2.0
"""CenterMask: a model that is opened once and called often, from the name of a file to what is in a picture."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.arguments import number, path_of
from centermask_runtime.closing import Closing
from centermask_runtime.device import AUTO, Device, check_threads
from centermask_runtime.errors import DataError, UsageError, first_line
from centermask_runtime.images import frame_of, is_pil_image
from centermask_runtime.instances import Instances
from centermask_runtime.networks.network import Network
from centermask_runtime.per_process import PerProcess
from centermask_runtime.pipeline.frame import AnyFrame, FramePipeline
from centermask_runtime.pipeline.opening import PipelineOpener, open_pipeline, pipeline_of
from centermask_runtime.pipeline.tiles import TiledPipeline
from centermask_runtime.pipeline.tiling import Tiling
from centermask_runtime.reference.nv12 import Nv12Frame
from centermask_runtime.results import Results
from centermask_runtime.selection import Selection, SelectionWords
from centermask_runtime.sinks.tracked import Tracked
from centermask_runtime.sources.addresses import image_behind
from centermask_runtime.sources.opening import is_one_image, open_source
from centermask_runtime.sources.options import SourceOptions, SourceWords
from centermask_runtime.spec import ModelSpec
from centermask_runtime.tiff_windows import TiffWindows, open_if_large
from centermask_runtime.tracking.regions_file import Regions, read_regions
from centermask_runtime.tracking.tracker import Tracker
from centermask_runtime.tracking.trails import LONGEST_TRAIL_S, USUAL_FPS
from centermask_runtime.value_range import ValueRange

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = NDArray[Any] | Image | Nv12Frame
    OneOfList = TypeVar("OneOfList", bound=NDArray[Any] | Image | Nv12Frame | str | os.PathLike[str])

PART = 32  # images of a list that are in memory at once


class CenterMask(Closing):
    """A model that finds objects with masks.

        model = CenterMask("model.onnx", conf=0.3)
        found = model(image)  # uint8 [H, W, 3] BGR -> Instances
        print(found.names, found.boxes, found.masks.areas())
        model("clip.mp4").save("out")  # clip.mp4 with masks, and predictions.json

    Several threads may call one model at once. A process that is forked opens it again by itself at its first call; on
    a GPU and by OpenVINO that cannot be, and one sentence says so. Pickle takes its arguments, so that another
    process opens it anew.
    """

    _open_pipeline: ClassVar[PipelineOpener] = staticmethod(open_pipeline)

    def __init__(
        self,
        model: str | os.PathLike[str] | Network,
        *,
        device: str | int | Device = AUTO,
        conf: float | None = None,
        mask_threshold: float | None = None,
        max_det: int | None = None,
        classes: str | int | Iterable[str | int] | None = None,
        threads: int | None = None,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        """What is None comes from the model.

        model: an exported file, .onnx, .xml or .engine, or an opened Network, which is closed with this. (The class of
        the same name in the package centermask opens weights and released models, too.)
        device: "auto", "cpu", "cuda", or the number of a GPU, as "cuda:1" or 1; nothing runs elsewhere than asked.
        conf: lowest score, 0 to 1. mask_threshold: lowest probability of a mask's pixel, 0 to 1. max_det: most objects
        per frame. classes: names or labels of the classes to keep. threads: of the CPU, None for all. tile: side in
        pixels of the tiles that larger frames are seen in, None for whole frames; overlap: pixels that neighbours share
        at least, None for an eighth of the tile. Objects are joined across tiles, and max_det, where it is None, is the
        model's per tile.
        Raises ModelError for what cannot be opened, UsageError for what makes no sense, DriverError for a missing GPU.
        """
        threads, tiling = check_threads(threads), Tiling.of(tile, overlap)
        if isinstance(classes, np.ndarray):
            classes = classes.ravel().tolist()
        if isinstance(classes, Iterable) and not isinstance(classes, (str, bytes)):
            classes = tuple(classes)  # it may be opened again
        self._model, self._device, self._threads, self._tiling = model, Device.of(device), threads, tiling
        self._selection = SelectionWords(conf=conf, mask_threshold=mask_threshold, max_det=max_det, classes=classes)
        if isinstance(model, (str, os.PathLike)):
            path = path_of(model, "A model")
            if path.exists() and not self._is_name(str(model)):
                path = path.absolute()  # it may be opened again after os.chdir, and in another process
            self._model = model = path
            opener = partial(self._open_pipeline, model, self._device, threads, tiling=tiling, **self._selection)
            self._pipeline = PerProcess(opener, str(model))
        elif hasattr(model, "run") and hasattr(model, "spec"):
            opened = pipeline_of(model, self._selection, tiling)
            self._pipeline = PerProcess(lambda: opened, "An opened Network", reopens=False)
        else:
            raise UsageError(f"A model is opened from a path, a name or a Network, not from {type(model).__name__}.")
        self._spec = self._pipeline.get().spec

    @property
    def spec(self) -> ModelSpec:
        """All numbers that the model's results depend on: classes, input size, thresholds, provenance."""
        return self._spec

    @property
    def selection(self) -> Selection:
        """Which objects are kept, as numbers."""
        return self._pipeline.get().selection

    @property
    def description(self) -> str:
        """What runs the model, in words: back end, version, device and threads."""
        return self._pipeline.get().description

    @overload
    def __call__(self, source: Picture) -> Instances: ...  # type: ignore[overload-overlap]  # arrays are iterable, too

    @overload
    def __call__(self, source: str | os.PathLike[str], **options: Unpack[SourceWords]) -> Instances | Results: ...

    @overload
    def __call__(self, source: int, **options: Unpack[SourceWords]) -> Results: ...

    @overload
    def __call__(self, source: list[OneOfList] | tuple[OneOfList, ...]) -> list[Instances]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, source: Iterable[Picture]) -> Results: ...

    def __call__(self, source: Any, **options: Unpack[SourceWords]) -> Instances | list[Instances] | Results:
        """What is in a picture, in each of a list of pictures, or in the frames of anything else.

        A picture is an array uint8 [H, W, 3] BGR as OpenCV reads it, a PIL image, or the path or address of an image
        file; it gives Instances. A list of pictures gives a list of Instances: they go through the network together
        where its batch allows. A folder, a pattern such as "photos/*.jpg", a list file, a video, a camera's number, the
        address of a stream, or any other iterable of arrays gives Results, which come one by one; an array must stay as
        it is until its result is there. options: which frames of a video or a stream, see SourceOptions.
        Raises DataError for what cannot be read and for arrays that are no frames, UsageError after close() and for
        an option that there is not.
        """
        pipeline, chosen = self._pipeline.get(), SourceOptions.of(options)
        if isinstance(source, (np.ndarray, Nv12Frame)) or is_pil_image(source):
            return pipeline(_frame(source, pipeline.spec.values))
        if isinstance(source, (list, tuple)):
            return _all(pipeline, source)
        if isinstance(source, os.PathLike):
            source = Path(os.fsdecode(source))
        windows = _windows(pipeline, source)
        if windows is not None and isinstance(pipeline, TiledPipeline):
            with windows:
                return pipeline(windows)
        opened = open_source(source, chosen)
        if not isinstance(source, (str, Path)) or not is_one_image(source, opened):
            return Results(pipeline, opened)
        with opened:
            opened.values = pipeline.spec.values
            return pipeline(next(iter(opened)).image)

    def parts(self, source: Any) -> Iterator[Instances]:
        """What is in one picture, part after part from its top, so that the objects of a large one are never all here.

        source: as a call takes it, of one picture. All parts have the coordinates of the whole. Without tiles it is one
        part. A large TIFF is read window by window, which the extra `tiles` brings. Raises what a call raises, and
        UsageError for more than one picture.

            for found in CenterMask("model.onnx", tile=512).parts("slide.tif"):
                print(len(found))
        """
        pipeline = self._pipeline.get()
        windows = _windows(pipeline, source)
        if windows is not None and isinstance(pipeline, TiledPipeline):
            with windows:
                yield from pipeline.parts(windows)
            return
        found = self(source)
        if not isinstance(found, Instances):
            raise UsageError("Parts are those of one picture, and several were given: call the model on each.")
        yield found

    def results(self, source: Any, **options: Unpack[SourceWords]) -> Results:
        """What a call gives, but Results in every case: also of one picture and of a list."""
        return Results(self._pipeline.get(), open_source(source, SourceOptions.of(options)))

    def track(
        self,
        source: Any,
        *,
        regions: str | os.PathLike[str] | Regions | None = None,
        gap: float = 1.5,
        confirm: int = 2,
        start_conf: float = 0.0,
        by_class: bool = True,
        trail: float = 2.0,
        **options: Unpack[SourceWords],
    ) -> Results:
        """The results of a source whose objects have ids, as a call gives them; save() draws trails, zones and counts.

            for result in model.track("clip.mp4"):
                print(result.frame.time_s, result.instances.ids)  # -1 where there is no confirmed track
            model.track("clip.mp4", regions="street.yaml").save("out")  # with counts.csv

        regions: zones and lines, or the YAML or GeoJSON file that they stand in. trail: how many seconds of an object's
        way save() draws. options: as of a call. The others are those of Tracker. Raises as a call does, and UsageError
        without the extra `track`.
        """
        if isinstance(regions, (str, os.PathLike)):
            regions = read_regions(regions)
        elif not isinstance(regions, Regions | None):
            raise UsageError(f"regions must be the path of a file, or Regions, not {type(regions).__name__}.")
        pipeline, seconds = self._pipeline.get(), number("trail", trail, 0, LONGEST_TRAIL_S)
        opened = open_source(source, SourceOptions.of(options))
        try:
            fps = float(opened.info.fps or USUAL_FPS)
            tracker = Tracker(gap=gap, confirm=confirm, start_conf=start_conf, by_class=by_class, fps=fps)
        except BaseException:
            opened.close()
            raise
        return Results(pipeline, opened, tracker, Tracked(regions, seconds, fps=fps))

    def close(self) -> None:
        """Gives back memory and devices. A call after it is refused."""
        self._pipeline.close()

    @staticmethod
    def _is_name(model: str) -> bool:
        """Whether it is a released model's name, whatever files there are: here none is."""
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._model)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self._model, Path):
            raise UsageError("A model of an opened Network cannot go to another process: open it there from its file.")
        cls, model = type(self), str(self._model)
        arguments: dict[str, Any] = {"device": self._device, "threads": self._threads, **self._selection}
        if self._tiling is not None:
            arguments |= {"tile": self._tiling.tile, "overlap": self._tiling.overlap}
        try:
            inspect.signature(cls).bind(model, **arguments)
        except TypeError as error:
            raise UsageError(
                f"{cls.__name__} does not take what CenterMask takes ({first_line(error)}), so it cannot go to another "
                "process: give it a __reduce__ of its own."
            ) from error
        return _open_again, (cls, model, arguments)


def _open_again(cls: type[CenterMask], model: str, arguments: dict[str, Any]) -> CenterMask:
    return cls(model, **arguments)


def _windows(pipeline: FramePipeline, source: Any) -> TiffWindows | None:
    """A TIFF so large that tiles of it are read one by one; None for all else."""
    is_path = isinstance(source, (str, os.PathLike)) and isinstance(pipeline, TiledPipeline)
    return open_if_large(os.fsdecode(source)) if is_path else None


def _frame(picture: Any, values: ValueRange | None) -> AnyFrame:
    return picture if isinstance(picture, Nv12Frame) else frame_of(picture, values)


def _all(pipeline: FramePipeline, pictures: Sequence[Any]) -> list[Instances]:
    """A part of the pictures at a time, so that a long list of paths does not fill the memory."""
    found: list[Instances] = []
    values = pipeline.spec.values
    for first in range(0, len(pictures), PART):
        frames = []
        for place, picture in enumerate(pictures[first : first + PART], first):
            try:
                frames.append(
                    image_behind(Path(os.fsdecode(picture)) if isinstance(picture, os.PathLike) else picture, values)
                    if isinstance(picture, (str, os.PathLike))
                    else _frame(picture, values)
                )
            except DataError as error:
                raise DataError(f"Picture {place} of the list, counted from 0: {error}") from error
        found += pipeline.many(frames)
    return found
