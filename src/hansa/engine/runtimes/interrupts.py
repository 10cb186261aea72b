"""Ctrl-C, and requests to end from outside: heard at once, or when a round's work is safe."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _say(text: str) -> None:
    """Tell who waits for the end. A signal may come while standard error is being written to, and
    a buffer cannot be entered twice: this goes past it."""
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(2, f"{text}\n".encode())


class Interrupts:
    """The first interrupt ends a run after the round under way; a second one ends it at once.

    Where nothing would be lost, the first does already.

    Args:
        safe: whether all rounds that are done are in a checkpoint.
        say: is told what a run that does not end at once is waiting for.

    Attributes:
        asked: whether the run shall end after the round under way.
    """

    def __init__(self, safe: Callable[[], bool], say: Callable[[str], None] = _say) -> None:
        self.safe, self.say = safe, say
        self.asked = False

    def ask(self) -> bool:
        """Ask for the end of the run; False if it should end at once."""
        if self.asked or self.safe():
            return False
        self.asked = True
        self.say("interrupted: the round under way is finished and saved; once more to end at once")
        return True

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Take the signals meanwhile; only the main thread gets any."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # What is ignored, as by nohup, or is somebody else's outside Python stays so.
        others = (signal.SIG_IGN, None)
        before = {one: signal.getsignal(one) for one in SIGNALS}
        before = {one: handler for one, handler in before.items() if handler not in others}
        for one in before:
            signal.signal(one, self._hear)
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _hear(self, number: int, frame: Any) -> None:
        if not self.ask():
            raise KeyboardInterrupt


def never() -> Interrupts:
    """For work that is not saved by rounds: every interrupt ends it at once."""
    return Interrupts(lambda: True)
