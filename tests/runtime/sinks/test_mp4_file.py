# SPDX-License-Identifier: Apache-2.0
"""A file of fragments that was cut anywhere becomes one that plays, or says that it has nothing."""

from __future__ import annotations

from fractions import Fraction

import av

from centermask_runtime.sinks.mp4_file import cut_to_whole_fragments, put_in_order
from centermask_runtime.sinks.video_writer import VideoWriter
from tests.support.small_pictures import SIZE_HW, picture


def fragments(folder, count=100):
    """The unfinished file of a writer that was killed after some frames."""
    writer = VideoWriter(folder / "v.mp4", SIZE_HW, Fraction(10))
    for index in range(count):
        writer.write(picture(index % 20))
    writer._mux(None, Fraction(0))
    writer._container.close()
    (path,) = folder.iterdir()
    return path


def frames_in(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_any_cut_is_mended(tmp_path):
    whole = fragments(tmp_path).read_bytes()
    cut, counts = tmp_path / "cut.mp4", []
    for length in range(0, len(whole) + 1, len(whole) // 40):
        cut.write_bytes(whole[:length])
        counts.append(frames_in(cut) if cut_to_whole_fragments(cut) else 0)
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 100
    assert len(set(counts)) >= 4  # fragments of two seconds


def test_in_order_the_index_comes_first_and_no_frame_is_lost(tmp_path):
    path = fragments(tmp_path)
    put_in_order(path, tmp_path / "v.mp4", 9000)
    content = (tmp_path / "v.mp4").read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat") and b"moof" not in content
    assert frames_in(tmp_path / "v.mp4") == 100
