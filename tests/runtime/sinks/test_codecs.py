# SPDX-License-Identifier: Apache-2.0
"""Which codecs there are is asked of the PyAV that is installed."""

from __future__ import annotations

from types import SimpleNamespace

import av
import pytest

from centermask_runtime.errors import UsageError
from centermask_runtime.sinks.codecs import CODECS, find_codec


def test_the_wheel_has_all_three():
    assert [find_codec(name, av).encoder for name in CODECS] == ["libx264", "libvpx-vp9", "libsvtav1"]


@pytest.mark.parametrize("name", ["h265", "", "H264", 5, None])
def test_another_name_is_refused_with_those_that_there_are(name):
    with pytest.raises(UsageError, match="choose one of h264, vp9, av1"):
        find_codec(name, av)


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        ({"libvpx-vp9"}, "The codec h264 needs FFmpeg's encoder libx264, which .*: choose vp9"),
        (set(), "install the av wheel from PyPI"),
    ],
)
def test_a_build_without_the_encoder_says_what_it_has(there, sentence):
    with pytest.raises(UsageError, match=sentence):
        find_codec("h264", SimpleNamespace(codecs_available=there))
