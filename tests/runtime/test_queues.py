# SPDX-License-Identifier: Apache-2.0
"""Threads read ahead and write behind: nothing lost, nothing out of order, errors where they belong."""

from __future__ import annotations

import threading
import time

import pytest

from centermask_runtime import queues
from centermask_runtime.errors import DataError
from centermask_runtime.queues import ReadAhead, WriteBehind


def waited_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited 10 seconds"
        time.sleep(0.005)


def test_everything_comes_in_order_and_only_so_much_is_read_ahead():
    read = []

    def numbers():
        for number in range(50):
            read.append(number)
            yield number

    with ReadAhead([numbers()], depth=3) as ahead:
        waited_for(lambda: len(read) == 4)  # three wait, one is in hand
        time.sleep(0.02)
        assert len(read) == 4
        assert list(ahead) == list(range(50)) and ahead.take() == []


def test_an_error_comes_after_all_that_was_read_before_it():
    def broken():
        yield from (1, 2)
        raise DataError("The tape broke.")

    with ReadAhead([broken()], depth=5) as ahead:
        assert ahead.take(5) in ([1], [1, 2])
        with pytest.raises(DataError, match="The tape broke"):
            list(ahead)


def test_several_are_taken_in_turn_and_one_that_ends_stops_no_other():
    with ReadAhead([iter("aaa"), iter("b"), iter("cc")], depth=3) as ahead:
        waited_for(lambda: not any(thread.is_alive() for thread in ahead._threads))
        assert ahead.take(2) == ["a", "b"] and ahead.take(9) == ["c", "a", "c", "a"] and ahead.take() == []


def test_where_drops_are_allowed_the_newest_stay_and_the_others_are_counted():
    with ReadAhead([range(10), range(3)], depth=1, drops=[True, False]) as ahead:
        waited_for(lambda: not ahead._threads[0].is_alive())
        assert ahead.take(2) == [9, 0] and ahead.dropped == [9, 0]
        assert list(ahead) == [1, 2]


def test_large_things_wait_one_at_a_time(monkeypatch):
    monkeypatch.setattr(queues, "MOST_BYTES", 10)
    read = []
    with ReadAhead([(read.append(size) or size for size in (50, 6, 6, 4))], depth=4, size=int) as ahead:
        waited_for(lambda: read == [50, 6])
        time.sleep(0.02)
        assert read == [50, 6] and list(ahead) == [50, 6, 6, 4]


def test_close_ends_a_thread_that_waits_for_room_and_closes_what_it_reads():
    ended = threading.Event()

    def endless():
        try:
            while True:
                yield 1
        finally:
            ended.set()

    ahead = ReadAhead([endless()], depth=1)
    ahead.take()
    ahead.close()
    assert ended.is_set() and not any(thread.is_alive() for thread in ahead._threads)


def test_who_waits_can_be_called_away():
    def called():
        raise KeyboardInterrupt

    never = threading.Event()
    with ReadAhead([iter(lambda: never.wait(5), True)], depth=1) as ahead:
        with pytest.raises(KeyboardInterrupt):
            ahead.take(poll=called)
        never.set()


def test_things_are_done_behind_in_their_order_and_all_of_them():
    done = []
    with WriteBehind(lambda number: (time.sleep(0.001), done.append(number)), 2, "test") as behind:
        for number in range(30):
            behind.put(number)
        behind.finish()
        assert done == list(range(30))


def test_an_error_behind_is_raised_where_the_next_is_put():
    def broken(number):
        if number == 2:
            raise DataError("The disk is full.")

    with WriteBehind(broken, 2, "test") as behind, pytest.raises(DataError, match="disk is full"):
        for number in range(1000):
            behind.put(number)
    with WriteBehind(broken, 5, "test") as behind:
        behind.put(2)
        with pytest.raises(DataError, match="disk is full"):
            behind.finish()


def test_what_is_given_up_is_not_done():
    done, begun, go_on = [], threading.Event(), threading.Event()

    def slow(number):
        begun.set()
        go_on.wait(5)
        done.append(number)

    behind = WriteBehind(slow, 5, "test")
    for number in range(5):
        behind.put(number)
    begun.wait(5)
    threading.Timer(0.05, go_on.set).start()
    behind.close()
    assert done == [0]
