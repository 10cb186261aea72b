"""The process in which one run of a sweep lives, or that forks those; started by a sweep."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError, Diverged, HansaError, RunError
from hansa.base.files import write_json
from hansa.base.forks import serve_forks
from hansa.base.packets import read_packet
from hansa.base.telling import heard_by
from hansa.experiment.beginning import begin, check, go_on
from hansa.experiment.settings_file import SettingsFile, kind_of, load_plugins
from hansa.report import RunFolder
from hansa.report.sink import grouped

_NEEDED = ("torch", "msgpack", "safetensors.torch", "hansa.engine", "hansa.experiment.run")
_OFTEN = 0.5  # seconds between two notes of how far a run is
FITS, FINISHED, DIVERGED = "fits", "finished", "diverged"
SPARED = "spared"
INTERRUPTED, FAILED, REFUSED = "interrupted", "failed", "refused"


class Note:
    """Notes in a file how far a run is; called by it.

    Args:
        rounds: that it is going to take; 0: it has none.
    """

    def __init__(self, path: Path, rounds: int) -> None:
        self.path, self.rounds = path, rounds
        self._last = 0.0

    def __call__(self, what: str | int, figures: Mapping[str, float] | None = None) -> None:
        if time.monotonic() - self._last < _OFTEN:
            return
        self._last = time.monotonic()
        done = {"done": what, "of": self.rounds} if isinstance(what, int) else {"what": what}
        write_json(self.path, {"status": "running", **done})


def main() -> int:
    """Take orders on standard input; with a number, one."""
    parser = argparse.ArgumentParser(description="Host runs of a sweep.")
    parser.add_argument("--index", type=int)
    if parser.parse_args().index is None:
        for module in _NEEDED:
            importlib.import_module(module)
        return serve_forks(host)
    packet = read_packet(sys.stdin.buffer)
    return 3 if packet is None else host(packet)


def host(order: Mapping[str, Any]) -> int:
    """Check the settings of an order, or take its run to an end, and note what came of it.

    An order has ``settings``, the file for ``note``, and ``task``: ``check``, or the ``folder`` in
    which to ``begin`` or ``resume``, and whether to write a ``report``.
    """
    note, began = Path(order["note"]), time.monotonic()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        said = _done(order, note)
    except KeyboardInterrupt:
        said = {"status": INTERRUPTED}
    except HansaError as error:
        refused = isinstance(error, ConfigError) and order["task"] == "check"
        status = DIVERGED if isinstance(error, Diverged) else REFUSED if refused else FAILED
        said = {"status": status, "error": str(error), "type": type(error).__name__}
        if isinstance(error, ConfigError):
            said |= {"field": error.field, "value": str(error.value), "problem": error.problem}
            said |= {"fix": error.fix}
        if isinstance(error, RunError):
            said |= {"repeats": error.repeats}
    except Exception as error:  # noqa: BLE001 - the sweep goes on with its other runs
        traceback.print_exc()
        said = {"status": FAILED, "error": f"{type(error).__name__}: {error}"}
    signal.signal(signal.SIGTERM, before)
    write_json(note, {**said, "seconds": round(time.monotonic() - began, 3)})
    return 0


def _done(order: Mapping[str, Any], note: Path) -> dict[str, Any]:
    settings = order["settings"]
    load_plugins(settings)
    kind = kind_of(settings)
    if order["task"] == "check":
        check(kind.parse(settings))
        return {"status": FITS}
    folder = _run(kind, order, note)
    summary = folder.summary or {}
    return {"status": summary.get("status", FAILED), "ended": summary.get("ended", "")}


def _run(kind: type[SettingsFile], order: Mapping[str, Any], note: Path) -> RunFolder:
    path, report = Path(order["folder"]), order["report"]
    say = Note(note, int(order["settings"].get("rounds") or 0))
    say("preparing")
    with heard_by(say), grouped(order.get("group", ""), order.get("tags", {})):
        if order["task"] == "resume":
            return go_on(kind, path, None, say, report)
        return begin(kind.parse(order["settings"]), path, say, report)


if __name__ == "__main__":
    sys.exit(main())
