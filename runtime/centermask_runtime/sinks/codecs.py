# SPDX-License-Identifier: Apache-2.0
"""Which codecs a video can be written with: those that browsers play in an MP4, and how each is asked for quality."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from centermask_runtime.errors import UsageError

DEFAULT_CODEC = "h264"


@dataclass(frozen=True)
class Codec:
    """A codec by an encoder of FFmpeg."""

    encoder: str
    options: Mapping[str, str]  # of the encoder; of about the same quality for all three


CODECS = {
    "h264": Codec("libx264", {"crf": "20", "preset": "veryfast"}),
    "vp9": Codec("libvpx-vp9", {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"}),
    "av1": Codec("libsvtav1", {"crf": "32", "preset": "10"}),
}


def find_codec(name: str, av: Any) -> Codec:
    """The codec of a name in CODECS. av: the module PyAV, whose build has some of the encoders.

    Raises UsageError for another name, and for an encoder that this build does not have.
    """
    if not isinstance(name, str) or name not in CODECS:
        raise UsageError(f"There is no codec {name!r} here: choose one of {', '.join(CODECS)}.")
    there = [known for known, codec in CODECS.items() if codec.encoder in av.codecs_available]
    if name not in there:
        raise UsageError(
            f"The codec {name} needs FFmpeg's encoder {CODECS[name].encoder}, which this build of PyAV does not have: "
            f"{'choose ' + ' or '.join(there) if there else 'install the av wheel from PyPI'}."
        )
    os.environ.setdefault("SVT_LOG", "1")  # libsvtav1 writes its settings on stderr, and asks this how much
    return CODECS[name]
