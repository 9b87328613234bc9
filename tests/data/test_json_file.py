# SPDX-License-Identifier: Apache-2.0
"""A JSON file that a user named: its content, or one sentence with its kind and its path."""

from __future__ import annotations

import pytest

from centermask.data.json_file import read_json
from centermask_runtime.errors import DataError


def test_content_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"images": [1, "ä"]}', encoding="utf-8")
    assert read_json(path, "annotation file") == {"images": [1, "ä"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "There is no annotation file {}."), (b"{", "{} is not JSON: "), (b'"\xff"', "{} is not JSON: ")],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, content, words):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_json(path, "annotation file")
    assert words.format(path) in str(refused.value) and "annotation file" in str(refused.value)


def test_a_folder_is_not_read(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read: Is a directory\.$"):
        read_json(tmp_path, "annotation file")
