"""The unit loop (runtime.py) with epoll used bare: a request for a key in stock is answered in a few microseconds, and
the bookkeeping of `selectors` would be a good part of them. Same calls, same meaning."""

from __future__ import annotations

import contextlib
import heapq
import select
import time
from collections.abc import Callable

from appliance.services.runtime import LONGEST_WAIT_S, READ, WRITE, Loop

_HANGS = select.EPOLLHUP | select.EPOLLERR


class EpollLoop(Loop):
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}

    def watch(self, fileno: int, callback: Callable[[int], None], events: int = READ) -> None:
        mask = (select.EPOLLIN if events & READ else 0) | (select.EPOLLOUT if events & WRITE else 0)
        if fileno in self._callbacks:
            self._epoll.modify(fileno, mask)
        else:
            self._epoll.register(fileno, mask)
        self._callbacks[fileno] = callback

    def forget(self, fileno: int) -> None:
        if self._callbacks.pop(fileno, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fileno)

    def turn(self, longest_s: float = LONGEST_WAIT_S) -> None:
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        wait_s = longest_s
        if timers:
            until_s = timers[0][0] - self.now()
            wait_s = 0.0 if until_s < 0.0 else until_s if until_s < longest_s else longest_s
        ready = self._epoll.poll(wait_s)
        for fileno, mask in ready:
            if self._stopping:
                return
            callback = self._callbacks.get(fileno)
            if callback is None:
                continue
            if mask == select.EPOLLIN:
                callback(READ)
            else:
                # A hang-up is something to read (the end) and to write (an error), as selectors has it.
                events = READ | WRITE if mask & _HANGS else 0
                callback(events | (READ if mask & select.EPOLLIN else 0) | (WRITE if mask & select.EPOLLOUT else 0))
        if wait_s == 0.0 or not ready:  # due, or come while nothing else did; a client's request is not asked for more
            self._fire()
