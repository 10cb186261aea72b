"""Whether hansa can work here: what is installed, the machine, its folders, its sockets.

Nothing is loaded that takes long; PyTorch is looked at from outside.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import hansa
from hansa.base.extras import extras, required, version_of
from hansa.base.files import cache_folder
from hansa.base.pretrained import offline

State = Literal["ok", "missing", "problem", "broken"]
NEEDED = 1 << 30
"""Bytes of memory and of disk under which a small run is at risk."""
FILES = 256
"""Open files that a run of some worker processes may need."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        about: installation, machine, folders or sockets.
        state: ``missing`` is something that one can do without; ``problem`` what will hinder some
            runs; ``broken`` what no run can do without.
        fix: the way out, where there is one.
    """

    about: str
    name: str
    state: State
    value: str
    fix: str = ""


def examine() -> list[Finding]:
    """Everything, in the order in which it is told."""
    return [finding for look in LOOKS for finding in look()]


def _installation() -> Iterator[Finding]:
    about = "installation"
    installed = version_of("hansa")
    where = str(Path(hansa.__file__).parent)
    if installed is None:
        fix = "pip install -e . in the checkout, or a wheel's file"
        yield Finding(about, "hansa", "problem", f"{hansa.__version__} in {where}, no package", fix)
    else:
        yield Finding(about, "hansa", "ok", f"{hansa.__version__} in {where}")
    python = platform.python_version()
    yield Finding(about, "Python", "ok", f"{python} in {sys.prefix}")
    absent = [name for name in required() if version_of(name) is None]
    fix = f"pip install {' '.join(absent)}" if absent else ""
    if absent:
        yield Finding(about, "packages", "broken", f"not there: {', '.join(absent)}", fix)
    else:
        yield Finding(about, "packages", "ok", f"{len(required())}, all there")
    for extra in extras():
        names = ", ".join(f"{name} {version}" for name, version in extra.packages if version)
        label = f"[{extra.name}]"
        if not extra.packages:
            yield Finding(
                about,
                label,
                "missing",
                f"not in this installation's list: {extra.gives}",
                extra.command,
            )
        elif extra.whole:
            yield Finding(about, label, "ok", names)
        else:
            yield Finding(about, label, "missing", extra.gives, extra.command)


def _torch() -> Iterator[Finding]:
    about, name = "machine", "GPU"
    version = version_of("torch")
    if version is None:
        return  # told with the packages
    built = torch_built_for()
    card = nvidia()
    if built and card:
        yield Finding(about, name, "ok", f"{card}; torch {version} for CUDA {built}")
    elif card:
        fix = "a torch that is built for CUDA: see pytorch.org/get-started"
        yield Finding(about, name, "problem", f"{card}, but torch {version} is for CPUs", fix)
    elif built:
        yield Finding(about, name, "missing", f"none is seen; torch {version} could use one")
    else:
        yield Finding(about, name, "missing", f"none is seen, and torch {version} is for CPUs")


def torch_built_for() -> str:
    """The version of CUDA that the installed torch is built for; empty: for none."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    with contextlib.suppress(OSError):
        for line in (Path(spec.origin).parent / "version.py").read_text().splitlines():
            name, _, value = line.partition("=")
            if name.partition(":")[0].strip() == "cuda":
                return value.strip().strip("'\"").replace("None", "")
    return ""


def nvidia() -> str:
    """The NVIDIA cards whose driver is loaded; empty: none."""
    cards = []
    for facts in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        with contextlib.suppress(OSError):
            lines = facts.read_text().splitlines()
            cards += [line.partition(":")[2].strip() for line in lines if "Model" in line]
    return ", ".join(cards) or ("a device" if Path("/dev/nvidia0").exists() else "")


def _machine() -> Iterator[Finding]:
    about = "machine"
    yield Finding(about, "cores", "ok", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}")
    free, whole = memory()
    text = f"{_size(free)} free of {_size(whole)}"
    low = free < NEEDED
    fix = "end something; fewer nodes or a smaller model otherwise"
    yield Finding(about, "memory", "problem" if low else "ok", text, fix if low else "")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < FILES
    shown = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    fix = f"ulimit -n {min(max(FILES, 4096), hard) if hard > 0 else 4096}" if few else ""
    yield Finding(about, "open files", "problem" if few else "ok", shown, fix)
    encoding = getattr(sys.stdout, "encoding", None) or "none"
    plain = encoding.lower().replace("-", "") != "utf8"
    fix = "export LC_ALL=C.UTF-8, or PYTHONUTF8=1" if plain else ""
    yield Finding(about, "characters", "problem" if plain else "ok", encoding, fix)
    newest = Path(hansa.__file__).stat().st_mtime
    now = time.strftime("%Y-%m-%d %H:%M %Z")
    early = time.time() < newest - 86400  # a day: files come from other time zones
    fix = "set the clock: certificates and evidence are judged by it" if early else ""
    shown = f"{now}, before hansa was installed" if early else now
    yield Finding(about, "clock", "problem" if early else "ok", shown, fix)


def memory() -> tuple[int, int]:
    """(bytes that are free, bytes in all), within the limit of the container where there is one."""
    facts = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            facts[name] = int(value.split()[0]) * 1024 if value.split() else 0
    whole = facts.get("MemTotal", 0)
    free = facts.get("MemAvailable", whole)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())  # "max" is no number: no limit
        used = int((group / "memory.current").read_text()) - _given_back(group)
        whole, free = min(whole, limit), min(free, max(0, limit - used))
    return free, whole


def _given_back(group: Path) -> int:
    """Bytes of a container that hold files, which the system takes back where it needs memory."""
    with contextlib.suppress(OSError, ValueError):
        lines = (group / "memory.stat").read_text().splitlines()
        facts = dict(line.split(maxsplit=1) for line in lines if " " in line)
        return int(facts.get("inactive_file", 0)) + int(facts.get("active_file", 0))
    return 0


def _folders() -> Iterator[Finding]:
    about = "folders"
    for name, place, fix in (
        ("this folder", Path(), "work in another one: runs are written to runs/ here"),
        ("cache", cache_folder(), "HANSA_CACHE=DIR names another one"),
        ("temporary", Path(tempfile.gettempdir()), "TMPDIR=DIR names another one"),
    ):
        try:
            free = _room(place)
        except OSError as error:
            yield Finding(about, name, "problem", f"{place}: {error.strerror}", fix)
            continue
        text = f"{place.absolute()}, {_size(free)} free"
        if free < NEEDED:
            yield Finding(about, name, "problem", text, f"free some space, or {fix}")
        else:
            yield Finding(about, name, "ok", text)
    shared = os.environ.get("HANSA_DATA")
    if not shared:
        text = "HANSA_DATA names no folder: real data sets are looked for in the cache alone"
        yield Finding(about, "data", "missing", text, "HANSA_DATA=DIR, where you have them")
    elif not Path(shared).expanduser().is_dir():
        yield Finding(about, "data", "problem", f"{shared} is no folder", "mend HANSA_DATA")
    elif not os.access(Path(shared).expanduser(), os.R_OK | os.X_OK):
        yield Finding(about, "data", "problem", f"{shared} cannot be read", "mend its rights")
    else:
        inside = [path.name for path in Path(shared).expanduser().iterdir() if path.is_dir()]
        yield Finding(about, "data", "ok", f"{shared}: {', '.join(sorted(inside)) or 'empty'}")
    if offline():
        yield Finding(about, "downloads", "missing", "HANSA_OFFLINE forbids them", "unset it")
    else:
        yield Finding(about, "downloads", "ok", "allowed; HANSA_OFFLINE=1 forbids them")


def _room(place: Path) -> int:
    """Free bytes where a folder is or would be made, after a file was written there.

    Raises:
        OSError: none can be.
    """
    there = next(one for one in (place, *place.absolute().parents) if one.exists())
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(b"hansa")
        file.flush()
    return shutil.disk_usage(there).free


def _sockets() -> Iterator[Finding]:
    about, fix = "sockets", "runs in one process work; processes, ray, sites and serving do not"
    for name, host in (("loopback", "127.0.0.1"), ("localhost", "localhost")):
        try:
            with (
                socket.create_server((host, 0)) as ear,
                socket.create_connection(ear.getsockname()[:2], timeout=2) as mouth,
            ):
                ear.settimeout(2)
                ear.accept()[0].close()
                yield Finding(about, name, "ok", f"{mouth.getpeername()[0]} answers")
        except OSError as error:
            yield Finding(about, name, "problem", str(error), fix)


def _size(bytes: float) -> str:
    return f"{bytes / 1e9:,.1f} GB"


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _installation,
    _torch,
    _machine,
    _folders,
    _sockets,
)
