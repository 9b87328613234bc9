# SPDX-License-Identifier: Apache-2.0
"""Coordinator: what the processes of a training must do in the same step: hear of events, stop, and fail.

Callbacks run on the first process only. At most events the others wait for them; at the events of a step, which come
too often for that, they hear of a callback's error at the next poll.
"""

from __future__ import annotations

from centermask.training.callbacks import STEP_EVENTS, Callbacks, Training
from centermask.training.distributed import Group
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.interrupt import DeferredInterrupt


class Coordinator:
    def __init__(self, group: Group, callbacks: Callbacks, interrupt: DeferredInterrupt) -> None:
        self.group = group
        self.callbacks = callbacks
        self.interrupt = interrupt
        self._error: CenterMaskError | None = None  # of a callback at an event of a step

    def notify(self, event: str, training: Training) -> None:
        """Calls the functions that were added for the event. A CenterMaskError of one ends all processes."""
        if event in STEP_EVENTS:
            try:
                if self.group.main:
                    self.callbacks.run(event, training)
            except CenterMaskError as error:
                self._error = error
        else:
            with self.group.together() as main:
                if main:
                    self.callbacks.run(event, training)

    def poll(self) -> None:
        """Stops all processes between two steps if one of them was asked to, or if a step's callback has failed."""
        asked, failed = self.group.sum(self.interrupt.is_pending, self._error is not None)
        if failed:
            self.group.raise_first(self._error)
        if asked:
            self.interrupt.stop()
