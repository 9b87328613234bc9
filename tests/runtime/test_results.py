# SPDX-License-Identifier: Apache-2.0
"""Results of a source: read once and lazily, and saved whole or not at all."""

from __future__ import annotations

import itertools
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from centermask_runtime import CenterMask, DataError, DrawStyle, UsageError, draw
from centermask_runtime.sources.video import VideoSource
from tests.runtime.test_model import in_child
from tests.support.exported_models import frames, tiny_onnx
from tests.support.given_networks import assert_same
from tests.support.places import ROOT


@pytest.fixture(scope="module")
def model():
    with CenterMask(tiny_onnx(), conf=0.3) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "pictures"
    made.mkdir()
    for index, picture in enumerate(frames(3)):
        cv2.imwrite(str(made / f"{index}.png"), picture)
    return made


@pytest.fixture
def clip(tmp_path):
    from centermask_runtime.sinks.video_writer import VideoWriter

    path = tmp_path / "clip.mp4"
    with VideoWriter(path, (120, 160), 10) as writer:
        for index in range(6):
            writer.write(np.ascontiguousarray(np.roll(frames(1)[0][:120, :160], 4 * index, 1)), index / 10)
    return path


def test_a_folder_is_saved_as_drawn_pictures_and_coco_results(model, folder, tmp_path):
    told = []
    summary = model(folder).save(tmp_path / "out", style=DrawStyle(labels=False), progress=told.append)
    saved = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [image["file_name"] for image in saved["images"]] == ["0.png", "1.png", "2.png"]
    assert summary.frames == 3 and summary.objects == len(saved["annotations"]) > 10 and summary.skipped == []
    assert summary.output == tmp_path / "out" and summary.fps > 0 and len(summary.times_ms) == 3
    assert "times_ms" not in repr(summary), "ten thousand numbers are nothing to read"
    assert [result.frame.name for result in told] == ["0.png", "1.png", "2.png"]
    for picture, name in zip(frames(3), ("0.png", "1.png", "2.png"), strict=True):
        found = model(picture)
        expected = draw(picture, found, DrawStyle(labels=False))
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out" / name)), expected)
        image = next(image["id"] for image in saved["images"] if image["file_name"] == name)
        masks = [one["segmentation"] for one in saved["annotations"] if one["image_id"] == image]
        np.testing.assert_array_equal(coco_mask.decode(masks).transpose(2, 0, 1).astype(bool), found.masks.canvases())


def test_a_video_is_saved_as_a_video(model, clip, tmp_path):
    summary = model(clip).save(str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.mp4", "predictions.json"]
    saved = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert summary.frames == 6 and [image["time_s"] for image in saved["images"]] == pytest.approx(np.arange(6) / 10)
    with VideoSource(tmp_path / "out" / "clip.mp4") as drawn:
        assert drawn.info.count == 6 and drawn.info.size_hw == (120, 160)


def test_only_what_is_wanted_is_written(model, folder, tmp_path):
    model(folder).save(tmp_path / "numbers", pictures=False)
    model(folder).save(tmp_path / "drawn", results=())
    assert [path.name for path in (tmp_path / "numbers").iterdir()] == ["predictions.json"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["0.png", "1.png", "2.png"]


def test_arrays_are_saved_under_their_numbers(model, tmp_path):
    summary = model(iter(frames(2))).save(tmp_path / "out")
    assert summary.frames == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "000000.png",
        "000001.png",
        "predictions.json",
    ]


def test_results_of_a_video_come_with_times_and_without_end_in_memory(model, clip):
    with model(clip) as results:
        assert results.info.is_video and results.info.size_hw == (120, 160) and results.info.count == 6
        first = next(results)
        assert first.frame.time_s == 0 and first.frame.index == 0
        assert_same(first.instances, model(first.frame.image))
    with pytest.raises(UsageError, match="read to their end, or closed: call the model again"):
        list(results)


def test_an_endless_generator_is_read_as_far_as_it_is_asked_for(model):
    endless = model(itertools.cycle(frames(2)))
    names = [result.frame.name for result in itertools.islice(endless, 5)]
    assert names == ["000000", "000001", "000002", "000003", "000004"]


def test_a_damaged_image_does_not_end_the_others(model, folder, tmp_path):
    (folder / "1.png").write_bytes(b"damaged")
    results = model(folder)
    assert [result.frame.name for result in results] == ["0.png", "2.png"]
    assert len(results.skipped) == 1 and "1.png is not an image" in results.skipped[0]
    summary = model(folder).save(tmp_path / "out")
    assert summary.frames == 2 and summary.skipped == results.skipped
    with pytest.raises(DataError, match=r"1\.png is not an image"):
        summary.require_complete()


def test_a_source_of_which_nothing_can_be_read_leaves_nothing_behind(model, folder, tmp_path):
    for path in folder.iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="None of the 3 images"):
        model(folder).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_that_were_begun_are_not_saved_in_part(model, folder, tmp_path):
    results = model(folder)
    next(results)
    with pytest.raises(UsageError, match="taken already"):
        results.save(tmp_path / "out")
    saved = model(folder)
    saved.save(tmp_path / "out")
    with pytest.raises(UsageError, match="taken already"):
        saved.save(tmp_path / "out")
    with pytest.raises(UsageError, match="read to their end"):
        list(saved)


def test_a_second_loop_over_results_is_refused_and_not_empty(model):
    results = model(iter(frames(2)))
    assert len(list(results)) == 2 and next(results, None) is None
    with pytest.raises(UsageError, match="read to their end"):
        list(results)


def test_a_second_thread_gets_a_sentence_and_the_first_goes_on(model):
    """Also where the second closes: the source is closed when the first has its result."""
    asked, go_on = threading.Event(), threading.Event()

    def given():
        yield frames(1)[0]
        asked.set()
        assert go_on.wait(30)
        yield from frames(2)

    results = model(given())
    with ThreadPoolExecutor(1) as pool:
        owner = pool.submit(list, results)
        assert asked.wait(30)
        with pytest.raises(UsageError, match="being read by another thread"):
            next(results)
        go_on.set()
        assert len(owner.result(30)) == 3
        asked.clear(), go_on.clear()
        closed = model(given())
        owner = pool.submit(list, closed)
        assert asked.wait(30)
        closed.close()
        go_on.set()
        assert len(owner.result(30)) == 2


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_results_of_a_video_do_not_outlive_a_fork_and_do_not_hang_the_child(model, clip):
    with model(clip) as results:
        next(results)

        def work():
            with results:
                next(results)

        assert in_child(work) == "UsageError: Results do not outlive a fork: call the model in the new process."
        assert len(list(results)) == 5


def test_pictures_are_not_written_over_their_source(model, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match="is the source itself"):
        model(folder).save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("kind", ["paths", "pillow", "mixed list", "pillow list"])
def test_no_kind_of_source_is_written_over(model, folder, kind):
    """Also where the files are known only as they come."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    paths = sorted(folder.iterdir())
    source = {
        "paths": lambda: (str(path) for path in paths),
        "pillow": lambda: (Image.open(path) for path in paths),
        "mixed list": lambda: [frames(1)[0], *paths],
        "pillow list": lambda: [Image.open(path) for path in paths],
    }[kind]()
    with pytest.raises(UsageError, match="is the source itself"):
        model.results(source).save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("kind", ["generator", "list", "pattern", "pillow"])
def test_images_of_one_name_do_not_take_the_place_of_each_other(model, tmp_path, kind):
    paths = [tmp_path / "in" / part / "x.png" for part in "ab"]
    for path, picture in zip(paths, frames(2), strict=True):
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), picture)
    source = {
        "generator": lambda: (path for path in paths),
        "list": lambda: [*paths, paths[0]],
        "pattern": lambda: f"{tmp_path}/in/**/*.png",
        "pillow": lambda: (Image.open(path) for path in paths),
    }[kind]()
    summary = model.results(source).save(tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "predictions.json").read_text())
    names = [image["file_name"] for image in saved["images"]]
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert len(names) == summary.frames == len(written) and set(names) == written
    expected = draw(frames(2)[1], model(frames(2)[1]))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out" / names[1])), expected)


def test_an_error_in_the_middle_gives_up_what_was_begun(model, tmp_path):
    def given():
        yield from frames(2)
        raise DataError("The camera was unplugged.")

    with pytest.raises(DataError, match="unplugged"):
        model(given()).save(tmp_path / "out", pictures=False)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="unplugged"):
        model(given()).save(tmp_path / "out")
    drawn = {path.name: cv2.imread(str(path)) for path in (tmp_path / "out").glob("*")}
    assert "predictions.json" not in drawn and all(picture is not None for picture in drawn.values())


def test_nothing_is_empty_results(model, tmp_path):
    summary = model(iter(())).save(tmp_path / "out")
    assert (summary.frames, summary.fps) == (0, 0.0)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["images"] == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"folder": None}, "A folder is named by its path, not by NoneType"),
        ({"folder": "out", "style": None}, "style must be a DrawStyle, not NoneType"),
    ],
)
def test_what_cannot_be_saved_to_is_refused_before_anything_is_read(model, given, sentence):
    results = model(iter(frames(1)))
    with pytest.raises(UsageError, match=sentence):
        results.save(**given)
    assert len(list(results)) == 1


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_refused(model, folder, tmp_path, output):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot be written"):
        model(folder).save(tmp_path / output)


def test_the_sample_clip_runs_as_results(model):
    results = model(ROOT / "samples" / "nuclei_scan.mp4")
    assert results.info.count == 300 and next(results).instances.frame_hw == results.info.size_hw
    results.close()


@pytest.mark.parametrize(
    ("folder", "options", "sentence"),
    [
        (None, {}, "A folder is named by its path, not by NoneType"), ("", {}, "not by nothing"), (b"out", {}, "bytes"),
        ("a\0b", {}, "a NUL"), ("out", {"results": "yaml"}, "There are no results of the kind 'yaml'"),
        ("out", {"pictures": None}, "pictures must be True or False, not None"), ("out", {"style": 3}, "a DrawStyle"),
        ("out", {"progress": 3}, "progress must be a function of a result, not int"),
    ],
)  # fmt: skip
def test_nothing_is_saved_of_wrong_arguments(model, tmp_path, monkeypatch, folder, options, sentence):
    monkeypatch.chdir(tmp_path)
    results = model(iter(frames(1)))
    with pytest.raises(UsageError, match=sentence):
        results.save(folder, **options)
    assert list(tmp_path.iterdir()) == [] and len(list(results)) == 1
