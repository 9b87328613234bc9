# SPDX-License-Identifier: Apache-2.0
"""`from centermask import ...`: weights and released models in the public class, and the commands as functions."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

import centermask
import centermask_runtime
from centermask import CenterMask, evaluate, export
from centermask.cli import main
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.model.weights import save_weights
from centermask_runtime import DataError, ModelError, UsageError
from tests.runtime.test_model import in_child
from tests.support.exported_models import CONFIG, released_onnx, tiny_model, tiny_onnx, tiny_spec
from tests.support.given_networks import assert_same
from tests.support.places import NUCLEI, ROOT

TISSUE = ROOT / "samples" / "images" / "tissue.png"


@pytest.fixture(scope="module")
def nuclei():
    with CenterMask("nuclei") as model:
        yield model


@pytest.fixture(scope="module")
def crops():
    image = cv2.imread(str(TISSUE))
    return [np.ascontiguousarray(image[40 * step : 40 * step + 200, 30 * step : 30 * step + 240]) for step in range(4)]


def test_a_released_model_runs_by_its_name(nuclei):
    found = nuclei(TISSUE)
    assert isinstance(nuclei, centermask_runtime.CenterMask)
    assert len(found) > 50 and set(found.names) == {"nucleus"} and "PyTorch" in nuclei.description


@pytest.mark.parametrize("package", [centermask, centermask_runtime])
def test_every_public_name_is_there_and_documented(package):
    for name in package.__all__:
        public = getattr(package, name)
        assert public.__doc__ and name in dir(package), name
    assert {"CenterMask", "Instances", "Result", "ModelSpec", "draw", "CenterMaskError"} <= set(package.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = package.Nonsense


def test_the_two_packages_share_all_but_the_class():
    shared = set(centermask_runtime.__all__) - {"CenterMask"}
    assert all(getattr(centermask, name) is getattr(centermask_runtime, name) for name in shared)
    assert set(centermask.__all__) - set(centermask_runtime.__all__) == {"train", "evaluate", "export"}


def test_the_nearest_name_is_proposed():
    with pytest.raises(ModelError, match="did you mean 'nuclei'"):
        CenterMask("nucleii")


@pytest.mark.slow
def test_weights_answer_eight_threads_rightly(nuclei, crops):
    expected = [nuclei(crop) for crop in crops]
    assert len({one.boxes.tobytes() for one in expected}) == 4
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda place: nuclei(crops[place % 4]), range(16)))
    for place, one in enumerate(found):
        assert_same(one, expected[place % 4])


@pytest.mark.process
def test_weights_go_on_in_a_forked_process_on_one_thread(nuclei, crops):
    expected = nuclei(crops[0])

    def work() -> str:
        found = nuclei(crops[0])
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
        with CenterMask("nuclei", threads=2) as another:
            assert len(another(crops[0])) == len(expected)
        return nuclei.description

    assert in_child(work).endswith("on cpu, 1 threads")


def test_a_name_goes_to_another_process_as_a_name(nuclei, crops):
    with pickle.loads(pickle.dumps(nuclei)) as again:
        assert type(again) is CenterMask and "nuclei" in repr(again)
        assert_same(again(crops[0]), nuclei(crops[0]))


def test_a_file_that_is_called_as_a_released_model_does_not_take_its_place(crops, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nuclei").mkdir()
    with CenterMask("nuclei") as model, pickle.loads(pickle.dumps(model)) as again:
        assert repr(again) == "CenterMask('nuclei')"
        assert_same(again(crops[0]), model(crops[0]))


# ---- evaluate and export --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_evaluate_gives_what_the_command_prints(capsys):
    model = released_onnx("fp32")
    found = evaluate(model, NUCLEI, threads=1)
    main(["val", "--model", str(model), "--data", str(NUCLEI), "--threads", "1", "--json"])
    printed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    for kind in ("bbox", "segm"):
        assert found.metrics[kind]["AP"] == printed[kind]["AP"] > 0.1
    fewer = evaluate(model, load_dataset(find_split(NUCLEI, "val")), conf=0.9, threads=1)
    assert len(fewer.results) < len(found.results)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, tiny_model().state_dict(), tiny_spec(), CONFIG)
    return path


@pytest.mark.slow
def test_export_writes_beside_the_weights_and_says_how_far_it_is_from_them(weights):
    made = export(weights)
    assert made.output == weights.with_suffix(".onnx") and made.precision == "fp32"
    assert made.outputs is not None and made.outputs.matched > 0 and made.ap is None
    with CenterMask(made.output) as model:
        assert model.spec.name == "tiny"


@pytest.mark.slow
def test_export_makes_one_artefact_of_another(weights, tmp_path):
    pytest.importorskip("openvino", reason="needs openvino")
    made = export(tiny_onnx(), "openvino", output=tmp_path / "tiny.xml")
    assert made.output == tmp_path / "tiny.xml" and made.outputs is not None
    assert made.outputs.matched > 0 and made.outputs.unmatched == 0  # compared with the ONNX file it was made from
    with CenterMask(tmp_path / "tiny.xml") as model:
        assert "OpenVINO" in model.description


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"format": "onxx"}, UsageError, "did you mean 'onnx'"),
        ({"precision": "fp8"}, UsageError, "fp8"),
        ({"imgsz": "64x64"}, UsageError, "imgsz must be one side, as 512, or height and width"),
        ({"imgsz": 65}, UsageError, "imgsz must be multiples of 32"),
        ({"output": 5}, UsageError, "output is named by its path, not by int"),
        ({"batch": 0}, UsageError, "batch must be a whole number from 1 to 4096, not 0"),
        ({"batch": "2"}, UsageError, "batch must be a whole number from 1 to 4096, not '2'"),
        ({"batch": True}, UsageError, "batch must be a whole number"),
        ({"batch": 1.5}, UsageError, "batch must be a whole number"),
        ({"batch": None}, UsageError, "batch must be a whole number"),
        ({"imgsz": 10**9}, UsageError, "imgsz must be sides of 1 to 16384 pixels"),
        ({"dynamic": "x"}, UsageError, "dynamic must be True or False, not 'x'"),
        ({"max_ap_drop": "x"}, UsageError, "max_ap_drop must be a number"),
        ({"progress": 3}, UsageError, "progress must be a function, not 3"),
        ({"format": 3}, UsageError, "format must be text, not 3"),
        ({"precision": None}, UsageError, "precision must be text, not None"),
        ({"source": 3}, UsageError, "source is named by its path, not by int"),
        ({"calib_data": 3}, UsageError, "calib_data is named by its path, not by int"),
        ({"verify": 3}, UsageError, "A data set is a folder, a name or a Dataset, not int"),
        ({"split": 3}, UsageError, "split must be text, not 3"),
        ({"opset": "18"}, UsageError, "opset must be a number"),
        ({"workspace": "4"}, UsageError, "workspace must be a number"),
        ({"targets": "sm86"}, UsageError, "targets must be a tuple of names"),
        ({"dynamic_imgsz": 3}, UsageError, "dynamic_imgsz must be sides"),
        ({"dynmaic": True}, UsageError, "no option 'dynmaic'; did you mean 'dynamic'"),
        ({"precision": "int8"}, UsageError, "needs calib_data"),
        ({"verify": "no such data"}, DataError, "no such data"),
    ],
)
def test_an_export_that_makes_no_sense_is_one_sentence(weights, tmp_path, options, kind, sentence):
    with pytest.raises(kind, match=sentence) as refused:
        export(weights, **{"output": tmp_path / "x.onnx", **options})
    assert "--" not in str(refused.value) and not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize(
    ("model", "data", "options", "kind", "sentence"),
    [
        ("nucleii", NUCLEI, {}, ModelError, "did you mean 'nuclei'"),
        ("tiny", "no such data", {}, DataError, "no such data"),
        ("tiny", NUCLEI, {"split": "tset"}, DataError, "tset"),
        (7, NUCLEI, {}, UsageError, "A model is named by its path, not by int"),
        ("tiny", None, {}, UsageError, "a folder, a name or a Dataset, not NoneType"),
        ("tiny", NUCLEI, {"progress": 3}, UsageError, "progress must be a function, not 3"),
        ("tiny", NUCLEI, {"split": None}, UsageError, "split must be text, not None"),
        ("tiny", 7, {}, UsageError, "a folder, a name or a Dataset, not int"),
        ("tiny", NUCLEI, {"conf": 3}, UsageError, "conf must be"),
        ("tiny", NUCLEI, {"device": "gpu"}, UsageError, "There is no device 'gpu'"),
        ("tiny", NUCLEI, {"threads": 0}, UsageError, "threads must be"),
    ],
)
def test_an_evaluation_that_makes_no_sense_is_one_sentence(model, data, options, kind, sentence):
    with pytest.raises(kind, match=sentence):
        evaluate(tiny_onnx() if model == "tiny" else model, data, **options)
