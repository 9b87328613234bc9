# SPDX-License-Identifier: Apache-2.0
"""The public class: what a call takes and gives, from threads, forks and other processes, and what it refuses."""

from __future__ import annotations

import functools
import http.server
import multiprocessing
import os
import pickle
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from centermask_runtime import CenterMask, CenterMaskError, DataError, Instances, ModelError, Results, UsageError
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from centermask_runtime.networks.opening import open_network
from tests.support.exported_models import frames, released_onnx, tiny_onnx
from tests.support.given_networks import assert_same

CONF = 0.3


@pytest.fixture(scope="module")
def model():
    with CenterMask(tiny_onnx(), conf=CONF) as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return frames(5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(made / f"{index}.png"), picture)
    return made


@pytest.fixture(scope="module")
def truth(model, pictures) -> list[Instances]:
    found = [model(picture) for picture in pictures]
    assert sum(map(len, found)) > 20
    return found


# ---- what a call takes ----------------------------------------------------------------------------------------------


def test_an_array_a_pil_image_and_a_path_are_the_same_picture(model, pictures, folder, truth):
    pillow = Image.fromarray(pictures[0][:, :, ::-1])  # RGB
    for picture in (pictures[0], pillow, folder / "0.png", str(folder / "0.png")):
        assert_same(model(picture), truth[0])


def test_an_image_behind_an_address_is_a_picture(model, folder, truth):
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            assert_same(model(f"{address}/0.png"), truth[0])
            one, other = model([f"{address}/1.png", folder / "2.png"])
            assert_same(one, truth[1]), assert_same(other, truth[2])
            with pytest.raises(DataError, match="missing"):
                model(f"{address}/missing.png")
        finally:
            server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


def test_a_list_gives_a_list(model, pictures, folder, truth):
    mixed = [
        pictures[0],
        folder / "1.png",
        Image.fromarray(pictures[2][:, :, ::-1]),
        str(folder / "3.png"),
        pictures[4],
    ]
    for given in (mixed, tuple(mixed)):
        found = model(given)
        assert isinstance(found, list) and len(found) == 5
        for one, expected in zip(found, truth, strict=True):
            assert_same(one, expected)
    assert model([]) == []


@pytest.mark.parametrize("kind", ["folder", "pattern", "generator", "iterator", "results of one"])
def test_everything_else_gives_results_one_by_one(model, pictures, folder, truth, kind):
    source = {
        "folder": folder, "pattern": str(folder / "*.png"), "generator": (picture for picture in pictures),
        "iterator": iter(pictures), "results of one": folder / "0.png",
    }[kind]  # fmt: skip
    results = model.results(source) if kind == "results of one" else model(source)
    assert isinstance(results, Results)
    found = list(results)
    assert len(found) == (1 if kind == "results of one" else 5)
    for result, picture, expected in zip(found, pictures, truth, strict=False):
        assert_same(result.instances, expected)
        np.testing.assert_array_equal(result.frame.image, picture)
    assert next(results, None) is None


def test_a_folder_and_a_pattern_of_one_image_are_no_picture(model, pictures, tmp_path):
    cv2.imwrite(str(tmp_path / "only.png"), pictures[0])
    assert isinstance(model(tmp_path), Results) and isinstance(model(str(tmp_path / "*.png")), Results)


def test_a_generator_is_asked_for_a_picture_only_when_somebody_asks_for_its_result(model, pictures):
    taken = []

    def given():
        for picture in pictures:
            taken.append(picture)
            yield picture

    results = model(given())
    assert taken == []
    next(results)
    assert len(taken) == 1
    results.close()
    assert next(results, None) is None and len(taken) == 1


@pytest.mark.slow
def test_a_batch_is_the_same_as_one_by_one(pictures):
    """In a graph of any batch; rounding may differ in the last places where sums are done in another order."""
    with CenterMask(released_onnx("dynamic"), conf=CONF) as dynamic:
        alone = [dynamic(picture) for picture in pictures]
        together = dynamic(pictures)
    assert sum(map(len, alone)) > 20
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)


def test_options_are_those_of_the_selection(pictures, truth):
    with CenterMask(tiny_onnx(), conf=0.5, max_det=3, classes="nucleus", mask_threshold=0.9, threads=1) as strict:
        found = strict(pictures[0])
        assert len(found) <= 3 and min(found.scores) >= 0.5
        assert strict.selection.classes == (0,) and strict.spec.class_names == ("nucleus",)
        assert "1 thread" in strict.description and "tiny.onnx" in repr(strict)


def test_an_opened_network_is_a_model_and_is_closed_with_it(pictures, truth):
    network = open_network(tiny_onnx())
    with CenterMask(network, conf=CONF) as opened:
        assert_same(opened(pictures[0]), truth[0])
    with pytest.raises(UsageError, match="closed"):
        network.run(np.zeros((1, 96, 128, 3), np.uint8))


# ---- threads --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_eight_threads_of_two_hundred_frames_get_no_wrong_answer(model, pictures):
    """Every frame is another one, so that an answer to the frame of another thread is seen."""
    given = [np.roll(pictures[index % 5], 7 * index, axis=1)[: 120 + index % 3] for index in range(25)]
    expected = [model(picture) for picture in given]
    assert len({one.boxes.tobytes() for one in expected}) > 20
    wrong = []

    def work(thread: int) -> None:
        for step in range(200):
            index = (thread * 3 + step) % len(given)
            found = model(given[index])
            if found.frame_hw != expected[index].frame_hw or not np.array_equal(found.boxes, expected[index].boxes):
                wrong.append(index)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)
    assert wrong == []


def test_closing_while_others_call_ends_in_results_or_in_one_sentence(pictures):
    shared = CenterMask(tiny_onnx(), conf=CONF)
    expected, failures = shared(pictures[0]), []

    def work() -> None:
        try:
            while True:
                assert_same(shared(pictures[0]), expected)
        except UsageError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    shared.close()
    for thread in threads:
        thread.join(30)
    assert failures == ["The model is closed: open it again before the next call."] * 4


# ---- processes ------------------------------------------------------------------------------------------------------


def in_child(work) -> str:
    """What `work` returns in a forked process, as multiprocessing forks it; it must end by itself."""
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)

    def run() -> None:
        try:
            sender.send(str(work()))
        except BaseException as error:
            sender.send(f"{type(error).__name__}: {error}")

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    try:
        assert receiver.poll(60), "the child hangs"
        return receiver.recv()
    finally:
        child.join(30)
        assert child.exitcode == 0


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_opens_the_model_again_by_itself(model, pictures, truth):
    def work() -> bool:
        for _ in range(2):
            assert_same(model(pictures[0]), truth[0])
        model.close()
        return True

    assert in_child(work) == "True"
    assert_same(model(pictures[0]), truth[0])  # the parent's is untouched


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_while_another_thread_opens_does_not_hang_the_child(model, pictures, truth):
    """The lock of the parent's thread is not the child's."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            model(pictures[1])

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        assert in_child(lambda: assert_same(model(pictures[0]), truth[0])) == "None"
    finally:
        stop.set()
        thread.join(30)


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_what_cannot_be_opened_again_in_a_child_says_so(pictures, tmp_path):
    given = CenterMask(OnnxRuntimeNetwork(tiny_onnx()))
    said = in_child(lambda: given(pictures[0]))
    assert said.startswith("UsageError: An opened Network does not outlive a fork: open the model in the new process")
    file = tmp_path / "gone.onnx"
    file.write_bytes(tiny_onnx().read_bytes())
    gone = CenterMask(file)
    file.unlink()
    assert "cannot be opened again in this forked process (There is no model file" in in_child(
        lambda: gone(pictures[0])
    )
    closed = CenterMask(tiny_onnx())
    closed.close()
    assert in_child(lambda: closed(pictures[0])).startswith("UsageError: The model is closed")


def boxes_of(model: CenterMask, picture: np.ndarray) -> bytes:
    return model(picture).boxes.tobytes()


@pytest.mark.process
def test_a_model_goes_to_other_processes_as_its_arguments(model, pictures, truth, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny_onnx().parent)
    relative = CenterMask("tiny.onnx", conf=CONF, classes=(name for name in ["nucleus"]), threads=1)
    sent = pickle.dumps(relative)
    assert len(sent) < 1000
    monkeypatch.chdir(tmp_path)
    with pickle.loads(sent) as again:
        assert_same(again(pictures[0]), truth[0])
        assert again.selection == relative.selection and again.description == relative.description
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(boxes_of, (model, pictures[0])) == truth[0].boxes.tobytes()


def test_an_opened_network_does_not_go_to_another_process():
    with (
        CenterMask(open_network(tiny_onnx())) as opened,
        pytest.raises(UsageError, match="cannot go to another process"),
    ):
        pickle.dumps(opened)


class Named(os.PathLike):
    """A path of another library's class."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_any_path_names_a_model_and_a_source(folder, truth):
    with CenterMask(Named(tiny_onnx()), conf=CONF) as opened:
        assert_same(opened(Named(folder / "0.png")), truth[0])
        assert_same(opened([Named(folder / "1.png")])[0], truth[1])
        assert isinstance(opened(Named(folder)), Results)


@pytest.mark.process
def test_a_relative_path_stays_the_file_that_was_opened(pictures, truth, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny_onnx().parent)
    relative = CenterMask("tiny.onnx", conf=CONF)
    monkeypatch.chdir(tmp_path)
    with pickle.loads(pickle.dumps(relative)) as again:
        assert_same(again(pictures[0]), truth[0])
    if hasattr(os, "fork"):
        assert in_child(lambda: assert_same(relative(pictures[0]), truth[0])) == "None"


class Configured(CenterMask):
    def __init__(self, settings: dict[str, float]) -> None:
        super().__init__(tiny_onnx(), **settings)


def test_a_subclass_with_arguments_of_its_own_is_told_what_pickle_needs():
    with Configured({"conf": CONF}) as own, pytest.raises(UsageError, match=r"Configured .* a __reduce__ of its own"):
        pickle.dumps(own)


def test_results_do_not_go_to_another_process(model, pictures):
    with pytest.raises(UsageError, match="Results are read in one process"):
        pickle.dumps(model(iter(pictures)))


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "kind", "sentence"),
    [
        (np.zeros((4, 5), np.uint8), DataError, "COLOR_GRAY2BGR"),
        (np.zeros((4, 5, 3), np.float32), DataError, "not float32"),
        (np.zeros((2, 4, 5, 3), np.uint8), DataError, "as a list"),
        (np.zeros((0, 5, 3), np.uint8), DataError, "no pixels"),
        ([np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)], DataError, "Picture 1 of the list"),
        (["missing.png"], DataError, "Picture 0 of the list, .*missing.png cannot be read"),
        ("missing.png", DataError, "There is no file or folder missing.png"),
        (Path("missing"), DataError, "There is no file or folder missing"),
        ("missing/*.png", DataError, "No file matches"),
        (None, UsageError, "not NoneType"),
        (3.5, UsageError, "not float"),
        (b"bytes", UsageError, "not bytes"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_in_one_sentence(model, source, kind, sentence):
    with pytest.raises(kind, match=sentence) as refused:
        model(source)
    assert "--" not in str(refused.value) and str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("conf", r"CenterMask\(model, conf=\.\.\.\)"),
        ("stream", "come one by one"),
        ("save", r"save\(folder\)"),
        ("fancy", r"and not 'fancy'\."),
    ],
)
def test_an_option_that_calls_of_other_libraries_have_is_refused_for_a_picture_and_a_folder(
    model, pictures, folder, option, advice
):
    for call, source in ((model, pictures[0]), (model, folder), (model.results, folder), (model.track, folder)):
        with pytest.raises(UsageError, match=rf"A call takes vid_stride, .*'{option}'.*") as refused:
            call(source, **{option: 0.5})
        assert re.search(advice, str(refused.value))


def test_an_iterable_of_something_else_is_refused_at_that_picture(model, pictures):
    results = model(iter([pictures[0], "missing.png"]))
    assert len(next(results).instances) > 0
    with pytest.raises(DataError, match=r"missing\.png"):
        next(results)
    assert next(results, None) is None


@pytest.mark.parametrize(
    ("given", "options", "kind", "sentence"),
    [
        ("missing.onnx", {}, ModelError, "There is no model file missing.onnx"),
        ("nuclei", {}, ModelError, "from centermask import CenterMask"),
        (None, {}, UsageError, "a path, a name or a Network, not from NoneType"),
        (7, {}, UsageError, "not from int"),
        ("", {}, UsageError, "A model is named by its path, not by nothing"),
        ("a\0b.onnx", {}, UsageError, "text with a NUL in it"),
        ("tiny", {"device": "gpu"}, UsageError, "There is no device 'gpu'"),
        ("tiny", {"device": None}, UsageError, "There is no device None"),
        ("tiny", {"conf": 2}, UsageError, "conf must be a number between 0 and 1, not 2"),
        ("tiny", {"mask_threshold": "0.5"}, UsageError, "mask_threshold must be"),
        ("tiny", {"max_det": 0}, UsageError, "max_det must be"),
        ("tiny", {"classes": ["nucleos"]}, UsageError, "did you mean 'nucleus'"),
        ("tiny", {"classes": 1}, UsageError, "no class number 1"),
        ("tiny", {"threads": 0}, UsageError, "threads must be a whole number from 1 to 1024, not 0"),
        ("tiny", {"threads": 1.5}, UsageError, "threads must be"),
    ],
)
def test_a_model_that_cannot_be_opened_says_why(given, options, kind, sentence):
    with pytest.raises(kind, match=sentence) as refused:
        CenterMask(tiny_onnx() if given == "tiny" else given, **options)
    assert isinstance(refused.value, CenterMaskError) and "--" not in str(refused.value)


def test_a_damaged_file_is_a_model_error(tmp_path):
    (tmp_path / "cut.onnx").write_bytes(tiny_onnx().read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"cut\.onnx is not an ONNX model"):
        CenterMask(tmp_path / "cut.onnx")


def test_a_closed_model_refuses_every_call(pictures):
    model = CenterMask(tiny_onnx())
    results = model(iter(pictures))
    model.close()
    model.close()
    for call in (lambda: model(pictures[0]), lambda: model([]), lambda: model.description, lambda: next(results)):
        with pytest.raises(UsageError, match="The model is closed: open it again"):
            call()
    assert model.spec.name == "tiny"
