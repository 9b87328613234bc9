# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C is answered when it is pressed, and obeyed at a poll()."""

from __future__ import annotations

import signal

import pytest

from centermask_runtime.interrupt import DeferredInterrupt


def test_where_no_step_is_under_way_the_answer_says_so(capfd):
    with DeferredInterrupt(announce=True) as interrupt:
        interrupt.doing("Stopping now: all steps are done and saved.")
        signal.raise_signal(signal.SIGTERM)
    assert capfd.readouterr().err.strip() == "Stopping now: all steps are done and saved. Ctrl-C again stops at once."


@pytest.mark.parametrize(("announce", "said"), [(True, "Stopping after this step"), (False, "")])
def test_the_first_ctrl_c_is_answered_at_once_where_that_is_wanted(announce, said, capfd):
    with DeferredInterrupt(announce=announce) as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert capfd.readouterr().err.strip().startswith(said) and interrupt.is_pending
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not capfd.readouterr().err
