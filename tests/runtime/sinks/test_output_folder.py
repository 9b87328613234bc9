# SPDX-License-Identifier: Apache-2.0
"""Two runs never write into one folder; whoever is killed holds it no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from centermask_runtime.errors import UsageError
from centermask_runtime.sinks.output_folder import OutputFolder
from tests.support.small_pictures import names_in

HOLD = """
import sys, time
from centermask_runtime.sinks.output_folder import OutputFolder
held = OutputFolder(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.process
def test_another_process_is_refused_until_the_first_is_gone_even_by_a_kill(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=r"Another run writes into .*: wait for it, or choose another output"):
            OutputFolder(tmp_path)
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
        other.stdout.close()
    with OutputFolder(tmp_path):
        pass
    assert names_in(tmp_path) == []


def test_in_one_process_too_and_the_folder_is_made(tmp_path):
    folder = tmp_path / "a" / "b"
    with OutputFolder(folder), pytest.raises(UsageError, match="Another run"):
        OutputFolder(folder)
    assert names_in(tmp_path) == []  # both are new and empty, so they go again
    with OutputFolder(folder):
        (folder / "kept").write_text("")
    assert names_in(folder) == ["kept"]


def test_a_holder_that_goes_between_opening_and_locking_is_noticed(tmp_path, monkeypatch):
    """The file that was opened has no name any more: a lock on it would keep nobody out."""
    import fcntl

    first, plain, times = OutputFolder(tmp_path), fcntl.flock, []

    def late(file, how):
        times.append(how)
        if len(times) == 1:
            first.close()
        plain(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with OutputFolder(tmp_path):
        assert len(times) == 2
        with pytest.raises(UsageError, match="Another run"):
            OutputFolder(tmp_path)


def test_what_cannot_be_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written, .*: choose another output"):
        OutputFolder(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


def test_a_name_that_is_too_long_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="cannot be written, file name too long: choose another output"):
        OutputFolder(tmp_path / ("x" * 300))
