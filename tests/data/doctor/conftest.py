# SPDX-License-Identifier: Apache-2.0
"""A sound data set for each test of the doctor to spoil."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sound_data import Content, write_sound


@pytest.fixture
def sound(tmp_path) -> tuple[Path, Content]:
    return tmp_path, write_sound(tmp_path)
