"""A process that has loaded what takes long, and forks others that need it.

What a forked process only reads it shares with all: libraries take their memory once, and their
time. It has to fork before any library starts threads, so it does nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

from hansa.base import child
from hansa.base.packets import read_packet, write_packet

_PR_SET_NAME = 15
_SIGNALS = {"kill": signal.SIGKILL, "interrupt": signal.SIGTERM}  # SIGINT may be ignored here


def possible() -> bool:
    """Whether processes can be forked here that have loaded libraries."""
    return sys.platform.startswith("linux")


def serve_forks(run: Callable[[dict[str, Any]], int]) -> int:
    """Fork a process for each packet that asks for it, until standard input ends.

    Packets are ``{"start": number, "name": ..., "log": path, ...}``, of which ``run`` makes the
    process's exit status, ``{"interrupt": number}`` and ``{"kill": number}``. On standard output
    there are packets ``{"started": number, "pid": ...}`` and ``{"ended": number, "status": ...}``,
    the status as :class:`subprocess.Popen` says it. At the end all are killed.
    """
    requests: Any
    requests, answers = os.fdopen(0, "rb", buffering=0, closefd=False), _own_output()
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    gc.collect()
    gc.freeze()  # so that looking for garbage touches no shared page
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            _bury(running, answers)
        if requests not in ready:
            continue
        packet = read_packet(requests)
        if packet is None:
            break
        if asked := [name for name in _SIGNALS if name in packet]:
            for pid in [pid for pid, number in running.items() if number == packet[asked[0]]]:
                os.kill(pid, _SIGNALS[asked[0]])
            continue
        parent, pid = os.getpid(), os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (wake, waker, answers.fileno()):
                os.close(descriptor)
            _become(packet, parent, run)
        running[pid] = packet["start"]
        write_packet(answers, {"started": packet["start"], "pid": pid})
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    while running:
        _bury(running, None, wait=True)
    return 0


def _own_output() -> BinaryIO:
    """Standard output, which from now on is where errors go: what is printed is no packet."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _bury(running: dict[int, int], answers: BinaryIO | None, wait: bool = False) -> None:
    """Tell of all that have ended; ``wait`` for one."""
    while running:
        pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
        if not pid:
            return
        number = running.pop(pid, None)
        if answers is not None and number is not None:
            write_packet(answers, {"ended": number, "status": os.waitstatus_to_exitcode(status)})


def _become(packet: dict[str, Any], parent: int, run: Callable[[dict[str, Any]], int]) -> None:
    """Be what a packet asks for: a process of its own session that ends with its parent."""
    status = 1
    try:
        os.setsid()
        log = os.open(packet["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_NAME, packet["name"].encode()[:15], 0, 0, 0)
        child.end_with(parent)
        status = run(packet)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - nothing of it may reach who has forked this
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
