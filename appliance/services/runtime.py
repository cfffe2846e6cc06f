"""The loop of a unit: descriptors, timers, signals, the watchdog. One thread, one `select`.

Whoever watches a descriptor passes a callback; it is called with the ready events. SIGTERM and SIGINT end
`run`, SIGHUP calls the reload callback when there is one.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

from appliance.services import notify

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
LONGEST_WAIT_S = 3600.0


class Timer:
    """A callback to come; `cancel` it as often as you like."""

    def __init__(self, at_s: float, callback: Callable[[], None]) -> None:
        self.at_s = at_s
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self.selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopping = False

    def watch(self, fileno: int, callback: Callable[[int], None], events: int = READ) -> None:
        """Calls `callback(events)` when ready; watching again changes events and callback."""
        if fileno in self.selector.get_map():
            self.selector.modify(fileno, events, callback)
        else:
            self.selector.register(fileno, events, callback)

    def forget(self, fileno: int) -> None:
        """Before the descriptor is closed. Forgetting what is not watched is allowed."""
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(fileno)

    def at(self, time_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(time_s, callback)
        heapq.heappush(self._timers, (time_s, next(self._order), timer))
        return timer

    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        return self.at(self.now() + delay_s, callback)

    def every(self, interval_s: float, callback: Callable[[], None]) -> None:
        """From now on, for the life of the loop."""

        def again() -> None:
            self.after(interval_s, again)
            callback()

        self.after(interval_s, again)

    def stop(self) -> None:
        """Ends `run` at once: what else is ready or due by now is not served."""
        self._stopping = True

    def turn(self, longest_s: float = LONGEST_WAIT_S) -> None:
        """Waits for what comes first and serves it."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        wait_s = longest_s
        if self._timers:
            wait_s = min(wait_s, max(0.0, self._timers[0][0] - self.now()))
        for key, events in self.selector.select(wait_s):
            if self._stopping:
                return
            # An earlier callback of this round may have forgotten this descriptor.
            if key.fd in self.selector.get_map():
                key.data(events)
        self._fire()

    def _fire(self) -> None:
        now = self.now()
        while self._timers and self._timers[0][0] <= now and not self._stopping:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                timer.callback()

    def run(self, reload: Callable[[], None] | None = None) -> None:
        """Until `stop` or a signal. Main thread only."""
        with self._signals(reload):
            interval_s = notify.watchdog_interval_s()
            if interval_s:
                self.every(interval_s, notify.watchdog)
            while not self._stopping:
                self.turn()

    @contextlib.contextmanager
    def _signals(self, reload: Callable[[], None] | None) -> Iterator[None]:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        caught = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

        def ignore(number: int, frame: FrameType | None) -> None:
            """The byte in the pipe does the work."""

        def arrived(events: int) -> None:
            for number in os.read(reading, 64):
                if number == signal.SIGHUP:
                    if reload is not None:
                        reload()
                elif number in caught:
                    self.stop()

        before = {number: signal.signal(number, ignore) for number in caught}
        wakeup = signal.set_wakeup_fd(writing)
        self.watch(reading, arrived)
        try:
            yield
        finally:
            self.forget(reading)
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reading)
            os.close(writing)
