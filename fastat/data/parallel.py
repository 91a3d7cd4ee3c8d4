"""One function over many inputs, in order: here, or by as many processes as there are processors."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from fastat.machine import platforms

LOOK = 1.0  # seconds after which a process sees that its parent is gone


@contextmanager
def mapping(many: bool) -> Iterator[Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]]:
    """What maps: Python's own `map`, or, of `many`, a pool's. When the block ends early, what waits is not begun."""
    n = platforms.n_processors()
    if not many or n == 1:
        yield map
        return
    pool = ProcessPoolExecutor(n, initializer=end_with, initargs=(os.getpid(),))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def end_with(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it has: it may be killed without a word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
