"""Whole checkpoints, out of the parts that the sites of one owner's run save."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hansa.base.errors import WireError
from hansa.base.files import writing
from hansa.engine.runtimes.checkpoint import load_block, read_manifest, save_block
from hansa.engine.runtimes.collect import Collector
from hansa.engine.runtimes.member import Member
from hansa.engine.runtimes.supplies import Depot


class CheckpointParts:
    """Seals a checkpoint once every site that is there has saved its part of it.

    Args:
        members: the sites, in order.
        collector: seals what is whole, and knows which nodes are away.
        folder: where checkpoints are.
        depot: where a site that shares no disk with this one finds its part again.
        resume: the checkpoint that all sites start from; None: they start anew.
    """

    def __init__(
        self,
        members: list[Member],
        collector: Collector,
        folder: Path,
        depot: Depot | None,
        resume: Path | None = None,
    ) -> None:
        self.members, self.collector = members, collector
        self.folder, self.depot, self.resume = folder, depot, resume
        self._open: dict[int, dict[int, dict[str, Any]]] = {}  # entries by round, by site

    def take(self, site: int, done: int, entry: dict[str, Any]) -> None:
        """A site has saved its part of the checkpoint after round ``done``.

        Raises:
            WireError: the part is of nodes that are not the site's.
        """
        one, ends = self.members[site], [int(self.members[site].ids[k]) for k in (0, -1)]
        if entry["nodes"] != ends:
            raise WireError(f"a part of the nodes {entry['nodes']}, which are not its")
        if self.depot is not None:
            self.depot.put(site, done, entry)
        one.part = {"folder": str(self._of(done)), "round": done, "files": [entry]}
        if not done:
            return  # what it starts from, in case it is gone before it saves anything else
        self._open.setdefault(done, {})[site] = entry
        self.seal()

    def seal(self) -> None:
        """Seal every checkpoint of which nobody's part is missing any more."""
        for done, entries in sorted(self._open.items()):
            away = [k for k in range(len(self.members)) if k not in entries]
            if any(not self.collector.away(self.members[k].ids, done) for k in away):
                continue
            for site in away:
                self._stand_in(site, done, entries)
            if len(entries) == len(self.members):
                whole = sorted(entries.values(), key=lambda entry: entry["nodes"])
                self.collector.seal(self.folder, done, whole, self._spare())
            del self._open[done]

    def _of(self, done: int) -> Path:
        return self.folder / f"round-{done:06d}"

    def _spare(self) -> set[Path]:
        """Folders with a part that a site starts from, or that may have to stand in for one."""
        parts = [part for one in self.members for part in (one.part, one.source)]
        spare = {Path(part["folder"]) for part in parts if part is not None}
        first = [one for one in self.members if one.part is None or one.state == "starting"]
        return spare | {self.resume} if first and self.resume is not None else spare

    def _stand_in(self, site: int, done: int, entries: dict[int, dict[str, Any]]) -> None:
        """Put the last part of a site that is gone in the place of the one that it lacks."""
        one = self.members[site]
        if one.part is None and self.resume is None:
            return  # it has none: such a checkpoint is not whole
        if one.part is None:
            of, entry = self._resumed(one, done)
        else:
            of, (entry,) = one.part["round"], one.part["files"]
            source = Path(one.part["folder"]) / entry["file"]
            with writing(self._of(done)):
                shutil.copyfile(source, self._of(done) / entry["file"])
        entries[site] = {**entry, "of": of}
        one.part = {"folder": str(self._of(done)), "round": of, "files": [entry]}

    def _resumed(self, one: Member, done: int) -> tuple[int, dict[str, Any]]:
        """A part made of the checkpoint that all start from, whose files may be of other sites;
        (its round, its entry)."""
        assert self.resume is not None
        manifest = read_manifest(self.resume)
        block = self.collector.job.block(one.ids)
        sealer = self.collector.sealer
        load_block(block, self.resume, manifest, sealer)
        return int(manifest["round"]), save_block(block, self.folder, done, sealer)
