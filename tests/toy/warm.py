"""Processes of ``python -m`` that begin where the imports of torch end: forked, not started anew.

Tests start hundreds of processes, each of which would take two seconds of a core to import what
the others have imported. While :func:`warmed` lasts, :class:`subprocess.Popen` takes those that
are ``[sys.executable, "-m", module, ...]`` from a process that has imported it and does nothing
else. They are this process's own children all the same, with the arguments, environment, folder,
files and session that they were asked for; a process that is begun so begins its own likewise.
Whatever is not quite as usual is started as ever: another interpreter or script, variables that
libraries read when they are loaded, other limits, and everything in :func:`cold`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import inspect
import io
import json
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LOADED = (
    "torch", "msgpack", "safetensors.torch", "hansa.engine.links.channel", "hansa.experiment.run",
)  # fmt: skip
"""What every run loads, and of that nothing that starts a thread (polars does)."""
_READ_AT_LOAD = (
    "CUDA", "KMP", "LD_", "MALLOC", "MKL", "OMP", "OPENBLAS", "PYTHON", "PYTORCH", "TORCH",
)  # fmt: skip
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_ENDS_WITH_PARENT, _ADOPTS = 1, 36  # of prctl(2)
_MOST = 100_000  # bytes of an order; what is longer is started as ever
_USUAL = subprocess.Popen._execute_child
_UNUSUAL = (
    "preexec_fn", "pass_fds", "startupinfo", "creationflags", "shell", "gid", "gids", "uid",
    "umask", "process_group",
)  # fmt: skip
"""What a process is started as ever for where it is asked for."""


class _Server:
    """A process that has loaded what takes long, as who wants others forked sees it."""

    def __init__(self, line: socket.socket, key: Any, pid: int) -> None:
        self.line, self.key, self.pid, self.owner = line, key, pid, os.getpid()

    def fork(self, order: dict[str, Any], files: list[int]) -> int | None:
        """A new child of this process; None: there is none to be had."""
        text = json.dumps(order).encode()
        if len(text) > _MOST:
            return None
        try:
            with _adopting():
                socket.send_fds(self.line, [text], files)
                said = self.line.recv(64)
        except ConnectionError:
            said = b""
        if not said:  # it was killed
            _servers.remove(self)
        return int(said) if said else None


_servers: list[_Server] = []
_lock = threading.Lock()
_cold = 0


@contextlib.contextmanager
def warmed() -> Iterator[None]:
    """Meanwhile processes begin so, where the system can do it."""
    if not sys.platform.startswith("linux"):
        yield
        return
    subprocess.Popen._execute_child = _execute_child
    try:
        yield
    finally:
        subprocess.Popen._execute_child = _USUAL
        while _servers:
            _servers.pop().line.close()


@contextlib.contextmanager
def cold() -> Iterator[None]:
    """Meanwhile processes are started as ever: for what is asked of their start, or of /proc."""
    global _cold
    _cold += 1
    try:
        yield
    finally:
        _cold -= 1


def forks_now() -> bool:
    """Whether a process that is begun here and now is forked, if it is as usual."""
    return subprocess.Popen._execute_child is _execute_child and not _cold


def servers() -> set[int]:
    """The processes that fork for this one; they stay until the end."""
    return {server.pid for server in _servers}


def _execute_child(self: Any, *given: Any) -> None:
    """As :class:`subprocess.Popen` starts a process, or as this file does."""
    asked = inspect.signature(_USUAL).bind(self, *given).arguments
    words = asked["args"]
    if not _fits(asked):
        return _USUAL(self, *given)
    ends = ((asked["p2cread"], 0), (asked["c2pwrite"], 1), (asked["errwrite"], 2))
    files = [own if end == -1 else end for end, own in ends]
    environment = dict(os.environ if asked["env"] is None else asked["env"])
    order = {
        "words": list(map(os.fspath, words[2:])),
        "environment": environment,
        "place": str(Path(asked["cwd"] or ".").absolute()),
        "session": bool(asked["start_new_session"]),
        "cores": sorted(os.sched_getaffinity(0)),
        "nests": not words[2].endswith(".child"),
    }
    with _lock:
        server = _server(_key(environment))
        pid = None if server is None else server.fork(order, files)
    if pid is None:
        return _USUAL(self, *given)
    self.pid, self._child_created = pid, True
    pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
    return self._close_pipe_fds(*(asked[name] for name in pipes))


def _fits(asked: dict[str, Any]) -> bool:
    words = asked["args"]
    if _cold or isinstance(words, (str, bytes, os.PathLike)) or len(words) < 3:
        return False
    if words[0] != sys.executable or words[1] != "-m" or not asked["close_fds"]:
        return False
    if any(asked.get(name) not in (None, (), 0, -1, False) for name in _UNUSUAL):
        return False
    return Path(asked["cwd"] or ".").is_dir()


def _key(environment: dict[str, str]) -> Any:
    """What must not differ between a process that forks and the one that is wanted."""
    loaded = {
        name: value
        for name, value in environment.items()
        if name.startswith(_READ_AT_LOAD) and name != "PYTHONPATH"
    }
    if _threads(environment):  # which can be set afterwards, too
        loaded["OMP_NUM_THREADS"] = "1"
    return loaded, [resource.getrlimit(kind) for kind in _LIMITS], os.nice(0)


def _threads(environment: dict[str, str]) -> int:
    """What a library that is loaded with these variables takes as its threads; 0: it chooses."""
    said = environment.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() else 0


def _server(key: Any) -> _Server | None:
    for server in _servers:
        if server.key == key and server.owner == os.getpid():
            return server
    # The kernel ends a process with the thread that began it.
    if threading.current_thread() is not threading.main_thread() or _nested:
        return None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, __file__, str(theirs.fileno()), str(os.getpid())]
        ours_too = {k: v for k, v in os.environ.items() if not k.startswith(_READ_AT_LOAD)}
        paths = {k: v for k, v in os.environ.items() if k == "PYTHONPATH"}
        with cold():
            begun = subprocess.Popen(
                command,
                env={**ours_too, **paths, **key[0]},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
    begun.returncode = 0  # it is waited for by nobody; its line ends with it
    _servers.append(_Server(ours, key, begun.pid))
    return _servers[-1]


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Meanwhile orphans among what this process has begun become its children."""
    kernel = ctypes.CDLL(None)
    kernel.prctl(_ADOPTS, 1, 0, 0, 0)
    try:
        yield
    finally:
        kernel.prctl(_ADOPTS, 0, 0, 0, 0)


_nested = False
"""Whether this process was itself begun so: it then has one that forks from the outset."""


def serve(line: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork a process for each order; in it, return the order and its files. None: the end."""
    while True:
        text, files, _, _ = socket.recv_fds(line, _MOST + 1, 3)
        if not text:
            return None
        between = os.fork()
        if between:
            os.waitpid(between, 0)
            for file in files:
                os.close(file)
            continue
        between = os.getpid()
        if os.fork():
            os._exit(0)  # so that the new process is an orphan, which who asked for it adopts
        while os.getppid() == between:
            time.sleep(0.0002)
        line.send(str(os.getpid()).encode())
        return json.loads(text), files


def become(line: socket.socket, before: str, order: dict[str, Any], files: list[int]) -> None:
    """Be the process that an order asks for.

    Args:
        before: PYTHONPATH of this process so far.
    """
    global _nested
    line.close()
    if order["session"]:
        os.setsid()
    os.sched_setaffinity(0, order["cores"])
    os.chdir(order["place"])
    for file, target in zip(files, range(3), strict=True):
        os.dup2(file, target)
    os.closerange(3, max(64, *files) + 1)
    _reopen()
    environment = order["environment"]
    paths = [path for path in sys.path[1:] if path not in before.split(os.pathsep)]
    after = environment.get("PYTHONPATH", "")
    sys.path[:] = [str(Path.cwd()), *filter(None, after.split(os.pathsep)), *paths]
    os.environ.clear()
    os.environ.update(environment)
    _nested = True
    _servers.clear()
    if order["nests"]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        server = os.fork()
        if not server:
            ours.close()
            nothing = os.open(os.devnull, os.O_RDWR)
            for file in range(3):
                os.dup2(nothing, file)
            os.close(nothing)
            stand_by(theirs, parent, after)
            return
        theirs.close()
        _servers.append(_Server(ours, _key(environment), server))
        subprocess.Popen._execute_child = _execute_child
    if threads := _threads(environment):
        sys.modules["torch"].set_num_threads(threads)
    module, sys.argv = order["words"][0], order["words"]
    importlib.invalidate_caches()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _reopen() -> None:
    """Read and write anew, as this process did: with the same variables it began so."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for file, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        mode, buffering = "wb" if file else "rb", 0 if file and unbuffered else -1
        raw = os.fdopen(file, mode, buffering, closefd=False)  # as Python's own
        stream = io.TextIOWrapper(
            raw,
            before.encoding,
            before.errors,
            line_buffering=file == 2 or (file == 1 and os.isatty(file)),
            write_through=bool(file and unbuffered),
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def stand_by(line: socket.socket, parent: int, paths: str) -> None:
    """Fork until the line or the parent ends; a forked process returns from here at its end."""
    ctypes.CDLL(None).prctl(_ENDS_WITH_PARENT, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    order = serve(line)
    if order is None:
        os._exit(0)
    become(line, paths, *order)


if __name__ == "__main__":
    for _name in _LOADED:
        importlib.import_module(_name)
    gc.collect()
    gc.freeze()
    _paths = os.environ.get("PYTHONPATH", "")
    stand_by(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), _paths)
