# SPDX-License-Identifier: Apache-2.0
"""What `with` does at its end: close, or throw away after an error, which itself goes on."""

from __future__ import annotations

import pytest

from centermask_runtime.closing import AllOrNothing, Closing


class Held(Closing):
    def __init__(self) -> None:
        self.ends: list[str] = []

    def close(self) -> None:
        self.ends.append("closed")


class Output(Held, AllOrNothing):
    __exit__ = AllOrNothing.__exit__

    def discard(self) -> None:
        self.ends.append("discarded")


@pytest.mark.parametrize(("kind", "after_error"), [(Held, ["closed"]), (Output, ["discarded"])])
def test_the_end_of_with_closes_once_and_an_error_is_never_swallowed(kind, after_error):
    with kind() as whole:
        assert whole.ends == []
    assert whole.ends == ["closed"]
    with pytest.raises(KeyError), kind() as broken:
        raise KeyError
    assert broken.ends == after_error
