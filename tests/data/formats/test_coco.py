# SPDX-License-Identifier: Apache-2.0
"""COCO files: what is none is refused; of several years the right one; Roboflow's placeholder is no class."""

from __future__ import annotations

import pytest

from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import Split, find_split
from centermask_runtime.errors import DataError
from tests.support.small_coco import content, opened
from tests.support.written_layouts import NUCLEUS, PLACEHOLDER, roboflow
from tests.support.written_layouts import opened as opened_split


@pytest.mark.parametrize("text", ["", "{", "\x00\x01", "annotations: []"])
def test_what_is_not_json_is_refused(tmp_path, text):
    with pytest.raises(DataError, match=r"all\.json is not JSON"):
        opened(tmp_path, text)


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_json_that_is_not_coco_is_refused(tmp_path, text):
    with pytest.raises(DataError, match="no list 'images'"):
        opened(tmp_path, text)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize(
    "change", [lambda entries, key: entries.pop(key), lambda entries, key: entries.update({key: {}})]
)
def test_a_file_without_one_of_the_lists_is_refused(tmp_path, key, change):
    entries = content()
    change(entries, key)
    with pytest.raises(DataError, match=rf"all\.json has no list '{key}', so it is not a COCO annotation file"):
        opened(tmp_path, entries)


def test_a_missing_annotation_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no annotation file .*nothing\.json"):
        load_dataset(Split.of_files(tmp_path / "nothing.json", tmp_path))
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(Split.of_files(tmp_path, tmp_path))


def test_the_year_2017_goes_before_others_which_have_names_of_their_own(tmp_path):
    for name in ("val2014", "val2017", "train2014"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{name}.json").write_text("{}")
    assert find_split(tmp_path, "val").images == tmp_path / "images" / "val2017"
    assert find_split(tmp_path, "val2014").images == tmp_path / "images" / "val2014"
    assert find_split(tmp_path, "train").annotations.name == "instances_train2014.json"
    with pytest.raises(DataError, match=r"No split 'test' .*which has train, val"):
        find_split(tmp_path, "test")


@pytest.mark.parametrize(
    ("categories", "annotated", "names"),
    [
        ([PLACEHOLDER, NUCLEUS], 1, ("nucleus",)),
        ([PLACEHOLDER, NUCLEUS], 0, ("cells", "nucleus")),  # somebody annotates it
        ([PLACEHOLDER, {**NUCLEUS, "supercategory": "none"}], 1, ("cells", "nucleus")),  # above nothing
        ([{**PLACEHOLDER, "supercategory": "x"}, NUCLEUS], 1, ("cells", "nucleus")),  # below something
        ([PLACEHOLDER], 0, ("cells",)),
    ],
)
def test_only_roboflows_placeholder_is_no_class(tmp_path, categories, annotated, names):
    assert opened_split(roboflow(tmp_path, *categories, annotated=annotated), "val").class_names == names
