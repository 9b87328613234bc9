# SPDX-License-Identifier: Apache-2.0
"""An output never takes the place of its own source, whatever name the file goes by."""

from __future__ import annotations

import pytest

from centermask_runtime.errors import UsageError
from centermask_runtime.sinks.sink import refuse_to_overwrite
from centermask_runtime.sources.source import SourceInfo


@pytest.mark.parametrize("name", ["a.png", "hard.png", "soft.png", "sub/../a.png"])
def test_every_name_of_a_source_file_is_refused(tmp_path, name):
    source = tmp_path / "a.png"
    source.write_bytes(b"pixels")
    (tmp_path / "sub").mkdir()
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "soft.png").symlink_to(source)
    with pytest.raises(UsageError, match=r"is the source itself; choose another output\.$"):
        refuse_to_overwrite(SourceInfo("a", files=(("a.png", source),)), [tmp_path / "new.png", tmp_path / name])


def test_other_files_and_new_ones_may_be_written(tmp_path):
    source, other = tmp_path / "a.png", tmp_path / "b.png"
    source.write_bytes(b"pixels")
    other.write_bytes(b"pixels")
    gone = ("gone.png", tmp_path / "gone.png")
    refuse_to_overwrite(SourceInfo("a", files=(("a.png", source), gone)), [other, tmp_path / "c.png", gone[1]])
