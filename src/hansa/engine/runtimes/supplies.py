"""How sites that share no disk come by files, and bring theirs: in pieces, over their links.

A site asks who gathers for one piece after the other of what it needs to begin: the plan, what it
alone holds, its part of a checkpoint. What it saves it brings before it says that it has. Whoever
asks gets only what was laid out for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import RunError, WireError
from hansa.base.files import writing
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.runtimes.checkpoint import part_name, round_folder
from hansa.engine.runtimes.coordinated import Coordinated

if TYPE_CHECKING:
    from hansa.engine.job import Job
    from hansa.engine.runtimes.site import Site

PIECE = 1 << 20
"""Bytes that go at a time."""
_LOOK = 0.2  # seconds between two looks
_COPIES = 64  # of a node's model or data that its state may take: moments, copies of others, mail
_LINK, _SLACK = 1 << 12, 64 << 20  # bytes of the state of a link; of all that is not counted


def part_limit(job: Job, ids: np.ndarray) -> int:
    """Bytes that a site's part of a checkpoint may take: far more than the state of its nodes.

    It may hold many copies of each of its nodes' models and of all data, and messages from every
    node of the run.
    """
    model = sum(4 * value.numel() for value in job.module.state_dict().values())
    train = job.dataset.train
    data = sum(value.numel() * value.element_size() for value in (train.inputs, train.targets))
    rows = (len(ids) + job.nodes) * model + len(ids) * data
    return _SLACK + _COPIES * rows + len(ids) * job.nodes * _LINK


@dataclass
class _Coming:
    """A part of a checkpoint that is being brought."""

    round: int
    name: str
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class Depot:
    """What each site may fetch, and where what it brings is put.

    Args:
        checkpoints: the folder of the run's checkpoints.
        limit: gives for a site's nodes the bytes that its part of a checkpoint may take.
    """

    def __init__(self, checkpoints: Path, limit: Callable[[np.ndarray], int]) -> None:
        self.checkpoints, self.limit = checkpoints, limit
        self._laid: dict[int, dict[str, Path]] = {}
        self._coming: dict[int, _Coming] = {}

    def lay(self, site: int, files: Mapping[str, Path]) -> None:
        """Lay out files for a site, by the names under which it fetches them."""
        self._laid[site] = dict(files)

    def piece(self, site: int, name: str, at: int) -> dict[str, Any]:
        """The piece of a file that begins at a byte.

        Raises:
            RunError: it was laid out, and cannot be read any more.
            WireError: there is none for this site.
        """
        path = self._laid.get(site, {}).get(name)
        if path is None:
            raise WireError(f"no {name[:64]!r} is laid out for it")
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(min(at, size))
                data = file.read(PIECE)
        except OSError as error:
            raise RunError(
                f"worker {site} needs {path}, which cannot be read any more "
                f"({error.strerror or error}); let a run's folder be until the run has ended",
                phase="start",
            ) from error
        return {"name": name, "at": at, "data": data, "last": at + len(data) >= size}

    def bring(self, site: int, ids: np.ndarray, fields: Mapping[str, Any]) -> None:
        """Take a piece of a site's part of a checkpoint.

        Args:
            ids: the site's nodes; no other's part is taken.

        Raises:
            DiskError: it cannot be written.
            RunError: the part is larger than anything that the site's nodes may keep.
            WireError: it is not the next piece.
        """
        if fields["name"] != (name := part_name(ids)):
            raise WireError(f"a file {fields['name'][:64]!r}, which is not its part")
        path, data = self._part(fields["round"], name), fields["data"]
        if not fields["at"]:
            self._coming[site] = _Coming(fields["round"], name)
        coming = self._coming.get(site)
        if coming is None or (coming.round, coming.size) != (fields["round"], fields["at"]):
            raise WireError("a piece that is not the next")
        if len(data) > PIECE:
            raise WireError(f"a piece of {len(data)} bytes, where {PIECE} are the most")
        if coming.size + len(data) > (most := self.limit(ids)):
            path.unlink(missing_ok=True)
            raise RunError(
                f"worker {site}'s part of a checkpoint is larger than {most} bytes, {_COPIES} "
                "times the models and the data that it can be of; keep less in the block's state, "
                "or save nothing (checkpoint.every=0)",
                round=fields["round"],
                phase="checkpoint",
            )
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab" if coming.size else "wb") as file:
                file.write(data)
        coming.size += len(data)
        coming.digest.update(data)

    def put(self, site: int, done: int, entry: Mapping[str, Any]) -> None:
        """A site says that it has brought its part of a checkpoint.

        Raises:
            WireError: it has not, or not the bytes that it says.
        """
        coming = self._coming.pop(site, None)
        if coming is None or (coming.round, coming.name) != (done, entry["file"]):
            raise WireError(f"a part of round {done} that it did not bring")
        part = self._part(done, coming.name)
        if coming.digest.hexdigest() != entry["sha256"]:
            part.unlink(missing_ok=True)
            raise WireError(f"a part of round {done} whose bytes are others")
        with writing(part):
            part.replace(part.with_suffix(""))

    def _part(self, done: int, name: str) -> Path:
        return round_folder(self.checkpoints, done) / f"{name}.part"


class Remote(Coordinated):
    """Reports to who gathers from a machine that has none of its files.

    Args:
        folder: this site's own.
    """

    def __init__(self, site: Site, folder: Path, careful: bool = False) -> None:
        super().__init__(site, careful)
        self.folder = folder

    def fetch(self, name: str) -> Path:
        """Fetch a file into this site's folder.

        Raises:
            RunError: who gathers is silent.
            WireError: it is not what was asked for.
        """
        path, at, last = self.folder / name, 0, False
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise WireError(f"{name!r} leads elsewhere")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                while not last:
                    self._say("want", name=name, at=at)
                    piece = self._piece()
                    if (piece["name"], piece["at"]) != (name, at):
                        raise WireError(f"a piece of {piece['name'][:64]!r}, not of {name!r}")
                    file.write(piece["data"])
                    at, last = at + len(piece["data"]), piece["last"]
        return path

    def _piece(self) -> dict[str, Any]:
        silence = Deadline(self.site.deadline)
        while not silence.passed:
            message = self.site.hear(_LOOK)
            if message is not None and message.kind == "piece":
                return message.fields
            self._obey(message)
        raise RunError(f"who gathers has sent nothing for {silence.seconds:g} s")

    def saved(self, done: int, entry: dict[str, Any]) -> None:
        """Bring the part of the checkpoint, and say so; it is not kept here."""
        path = round_folder(self.folder / "checkpoints", done) / entry["file"]
        with path.open("rb") as file:
            at = 0
            while data := file.read(PIECE):
                self._say("part", round=done, name=entry["file"], at=at, data=data)
                self.settled()  # never more than a piece is on its way
                at += len(data)
        path.unlink()
        super().saved(done, entry)
