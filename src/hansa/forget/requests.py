"""The requests of a run folder: what was forgotten, and the state that the run is in since.

::

    requests/001/receipt.json   what was asked, done, deleted and measured
    requests/001/state/         the run since, a checkpoint: of each worker what its own nodes have,
                                the clients' images and those that are kept for relearning

A request is one rename of a finished folder, so that an interrupt leaves the run as it was. What
the newest state replaces is deleted then, and where that was interrupted, when the folder is
opened next; not so while a request is incomplete: what it was to destroy is kept until its goal is
reached.
"""

from __future__ import annotations

import datetime
import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.bundle import read_facts
from hansa.base.errors import CheckpointError
from hansa.base.files import write_json, writing
from hansa.engine.runtimes.checkpoint import MANIFEST, shelved
from hansa.experiment.trained import CHANGES, STATE, changes_of, present_checkpoint
from hansa.forget.erase import withheld_shelf
from hansa.forget.page import RECEIPT
from hansa.forget.request import Request
from hansa.report.folder import plain

if TYPE_CHECKING:
    from torch import Tensor

_PART = ".part"


class Requests:
    """The requests of one run, oldest first.

    Args:
        run: the run folder's path.
    """

    def __init__(self, run: Path) -> None:
        self.run, self.path = run, run / CHANGES
        self.folders = changes_of(run)
        self.receipts = [_read(folder / RECEIPT) for folder in self.folders]

    @property
    def past(self) -> Request:
        """What must not be used again: all that was asked for and not learned anew."""
        covered = Request()
        for receipt in self.receipts:
            request = Request.parse(receipt["request"])
            covered = covered | request if receipt["kind"] == "forget" else covered - request
        return covered

    @property
    def open(self) -> Request:
        """The part of the past whose goal is not reached: its images and the model are here."""
        covered = Request()
        for receipt in self.receipts:
            request = Request.parse(receipt["request"])
            covered = covered | request if _incomplete(receipt) else covered - request
        return covered

    @property
    def served(self) -> Request:
        """The part of the past that is forgotten."""
        return self.past - self.open

    def serving(self, request: Request) -> dict[str, Any] | None:
        """The receipt of this very request, if it was served and still holds."""
        if request - self.served:
            return None
        for receipt in reversed(self.receipts):
            if receipt["kind"] == "forget" and Request.parse(receipt["request"]) == request:
                return receipt
        return None

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint of the run's present state."""
        return present_checkpoint(self.run)

    def withheld(self, request: Request) -> str | None:
        """The shelf with the images kept for learning a request anew; None if they are gone."""
        for receipt in self.receipts:
            if receipt["kind"] == "forget" and Request.parse(receipt["request"]) == request:
                name = withheld_shelf(int(receipt["number"]))
                if self.checkpoint and len(shelved(self.checkpoint, name)):
                    return name
        return None

    def shelves(self, which: Callable[[Request], bool]) -> list[str]:
        """The shelves for what was kept of some of the requests to forget."""
        numbered = [
            (Request.parse(r["request"]), r) for r in self.receipts if r["kind"] == "forget"
        ]
        return [withheld_shelf(int(r["number"])) for request, r in numbered if which(request)]

    def begin(self) -> Path:
        """An empty folder in which the next request is prepared."""
        self._clear()
        part = self.path / f"{_PART}-{len(self.folders) + 1:03d}"
        with writing(part):
            part.mkdir(parents=True)
        return part

    def commit(
        self, part: Path, receipt: Mapping[str, Any], files: Mapping[str, bytes] | None = None
    ) -> Path:
        """Make a request part of the run, in one step; returns its folder.

        Args:
            part: where it was prepared; the run's nodes as they are from now on are in ``state``.
            files: what else goes into the folder.
        """
        number = len(self.folders) + 1
        for name, content in (files or {}).items():
            with writing(part / name):
                (part / name).write_bytes(content)
        write_json(part / RECEIPT, plain({**receipt, "number": number, "purged": None}))
        for extra in part.iterdir():
            if extra.name not in (STATE, RECEIPT, *(files or {})):
                shutil.rmtree(extra)
        folder = self.path / f"{number:03d}"
        part.rename(folder)
        self.folders.append(folder)
        self.receipts.append(_read(folder / RECEIPT))
        self.purge()
        return folder

    def _clear(self) -> None:
        """Delete what an interrupt has left behind."""
        for stale in self.path.glob(f"{_PART}-*"):
            shutil.rmtree(stale)

    def purge(self) -> None:
        """Delete what the newest state has replaced, and what an interrupt left behind."""
        self._clear()
        if not self.folders or _incomplete(self.receipts[-1]):
            return
        old = sorted((self.run / "checkpoints").glob("round-*"))
        old += [folder / STATE for folder in self.folders[:-1] if (folder / STATE).exists()]
        for path in old:
            # The manifest goes first: a half-deleted checkpoint is not a valid one.
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path)
        newest = self.receipts[-1]
        if newest["purged"] is None:
            newest["purged"] = now()
            write_json(self.folders[-1] / RECEIPT, newest)


def now() -> str:
    """The time in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def fingerprint(row: Tensor) -> str:
    """SHA-256 of a model's numbers [D], as little-endian float32."""
    numbers = row.detach().cpu().contiguous().numpy().astype("<f4")
    return hashlib.sha256(numbers.tobytes()).hexdigest()


def _incomplete(receipt: Mapping[str, Any]) -> bool:
    return bool(receipt["kind"] == "forget" and receipt.get("status") == "incomplete")


def _read(path: Path) -> dict[str, Any]:
    try:
        receipt = read_facts(path)
        Request.parse(receipt["request"])
        receipt["kind"], receipt["purged"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    return receipt
