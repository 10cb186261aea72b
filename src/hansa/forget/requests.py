"""The requests of a run folder: what was forgotten, and the state that the run is in since.

::

    requests/001/receipt.json   what was asked, done, deleted and measured
    requests/001/state/         the server's model and the clients' images since (a checkpoint)
    requests/001/withheld.safetensors   images kept for relearning, where that was allowed

A request is one rename of a finished folder, so that an interrupt leaves the run as it was. What
the newest state replaces is deleted then, and where that was interrupted, when the folder is
opened next; not so while a request is incomplete: what it was to destroy is kept until its goal is
reached.
"""

from __future__ import annotations

import datetime
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.bundle import read_bundle, read_facts, write_bundle
from hansa.base.errors import CheckpointError
from hansa.base.files import write_json, writing
from hansa.base.lazy import torch
from hansa.engine import Block
from hansa.engine.runtimes.checkpoint import MANIFEST, save_block, seal
from hansa.ensemble.synthetic import SyntheticLayout
from hansa.experiment.trained import CHANGES, STATE, changes_of, present_checkpoint
from hansa.forget.page import RECEIPT
from hansa.forget.request import Request
from hansa.report.folder import plain

if TYPE_CHECKING:
    from torch import Tensor

WITHHELD = "withheld.safetensors"
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

    def withheld(self, request: Request) -> dict[int, Tensor] | None:
        """The images, by client, kept for learning a request anew; None if they are gone."""
        for folder, receipt in zip(self.folders, self.receipts, strict=True):
            kept = folder / WITHHELD
            if receipt["kind"] == "forget" and Request.parse(receipt["request"]) == request:
                if not kept.exists():
                    continue
                return _withheld(folder)
        return None

    def commit(
        self,
        block: Block,
        done: int,
        receipt: Mapping[str, Any],
        withheld: Mapping[int, Tensor] | None = None,
        files: Mapping[str, bytes] | None = None,
        layout: SyntheticLayout | None = None,
    ) -> Path:
        """Make a request part of the run, in one step; returns its folder.

        Args:
            block: the run's nodes as they are from now on.
            done: rounds of the run.
            withheld: images to keep for relearning, by client.
            files: what else goes into the folder.
        """
        number = len(self.folders) + 1
        part = self.path / f"{_PART}-{number:03d}"
        shutil.rmtree(part, ignore_errors=True)
        with writing(part):
            part.mkdir(parents=True)
        entry = save_block(block, part / STATE, done)
        seal(part / STATE, done, [entry], keep=1, seconds=0.0)
        if withheld:
            _withhold(part, withheld)
        for name, content in (files or {}).items():
            with writing(part / name):
                (part / name).write_bytes(content)
        write_json(part / RECEIPT, plain({**receipt, "number": number, "purged": None}))
        folder = self.path / f"{number:03d}"
        part.rename(folder)
        self.folders.append(folder)
        self.receipts.append(_read(folder / RECEIPT))
        self.purge()
        self.scrub_withheld(layout)
        return folder

    def purge(self) -> None:
        """Delete what the newest state has replaced, and what an interrupt left behind."""
        for stale in self.path.glob(f"{_PART}-*"):
            shutil.rmtree(stale)
        if not self.folders or _incomplete(self.receipts[-1]):
            return
        old = sorted((self.run / "checkpoints").glob("round-*"))
        old += [folder / STATE for folder in self.folders[:-1] if (folder / STATE).exists()]
        for path in old:
            # The manifest goes first: a half-deleted checkpoint is not a valid one.
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path)
        for folder, receipt in zip(self.folders, self.receipts, strict=True):
            if receipt["kind"] == "forget" and not Request.parse(receipt["request"]) - self.past:
                continue
            (folder / WITHHELD).unlink(missing_ok=True)  # it was learned anew: they are back
        newest = self.receipts[-1]
        if newest["purged"] is None:
            newest["purged"] = now()
            write_json(self.folders[-1] / RECEIPT, newest)

    def scrub_withheld(self, layout: SyntheticLayout | None) -> None:
        """Take what later requests cover out of the images that earlier ones have kept."""
        for k, folder in enumerate(self.folders):
            kept = folder / WITHHELD
            if layout is None or not kept.exists():
                continue
            own = Request.parse(self.receipts[k]["request"])
            later = [r for r in self.receipts[k + 1 :] if r["kind"] == "forget"]
            rows = _withheld(folder)
            scrubbed: dict[int, Tensor] = {}
            for receipt in later:
                request = Request.parse(receipt["request"])
                if request != own:
                    scrubbed |= scrub(rows, layout, request)
            if any(row.any() for row in scrubbed.values()):
                _withhold(folder, rows)


def _withhold(folder: Path, rows: Mapping[int, Tensor]) -> None:
    tensors = {str(client): row for client, row in rows.items()}
    write_bundle((folder / WITHHELD).with_suffix(""), {}, tensors)


def _withheld(folder: Path) -> dict[int, Tensor]:
    """Raises CheckpointError where they are damaged."""
    tensors = read_bundle((folder / WITHHELD).with_suffix(""))[1]
    return {int(name): row for name, row in tensors.items()}


def now() -> str:
    """The time in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def fingerprint(row: Tensor) -> str:
    """SHA-256 of a model's numbers [D], as little-endian float32."""
    numbers = row.detach().cpu().contiguous().numpy().astype("<f4")
    return hashlib.sha256(numbers.tobytes()).hexdigest()


def scrub(
    images: dict[int, Tensor], layout: SyntheticLayout, request: Request
) -> dict[int, Tensor]:
    """Overwrite with zeros, in place, the synthetic images that a request covers.

    Returns:
        What was there, rows by client that are 0 elsewhere.
    """
    before = {}
    for client, row in images.items():
        labels = layout.labels(client).tolist()
        meant = [k for k, c in enumerate(labels) if request.covers_cell(client, c)]
        if meant:
            at = torch.tensor(meant)
            before[client] = torch.zeros_like(row)
            layout.images(before[client], client)[at] = layout.images(row, client)[at]
            layout.images(row, client)[at] = 0.0
    return before


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
