"""What an ensemble's run has finished, so that an interrupted one goes on from there.

::

    finished/member_*           models of phase 1, as they travel
    finished/scores.*           what members say of the proxies and of the test set
    finished/rule_NAME.*        a rule that was fitted, also without each fold of the proxies
    finished/baseline_NAME.json

Each piece is a bundle, or a JSON file that is written last. Whatever is not there is done again
from its own random streams, so a run that was interrupted ends as any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.bundle import bundle_file, read_bundle, read_facts, write_bundle
from hansa.base.files import write_json
from hansa.base.spec import DataSpec
from hansa.combine.ensemble.aggregate import Fit
from hansa.combine.ensemble.judging import OutOfFold
from hansa.combine.ensemble.member_file import fill, is_whole, read_member, write_member
from hansa.combine.ensemble.members import Member
from hansa.ensemble import Panel, Rule

if TYPE_CHECKING:
    from torch import Tensor

FINISHED = "finished"
"""Their folder's name in a run's."""
_REMEDY = "delete it, and that piece is done again"


def slug(name: str) -> str:
    """A component's name as a file's; one by import path has characters that do not fit."""
    return re.sub(r"[^\w.-]+", "-", name)


class Finished:
    """The pieces below ``path``; a run's own, so what they name is trusted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self, spec: DataSpec) -> dict[int, Member]:
        """The members that are trained, by client.

        Raises:
            CheckpointError: a file is damaged.
        """
        entries = [self._read(file.stem) for file in sorted(self.path.glob("member_*.json"))]
        trained = [read_member(self.path, entry, spec, trust=True) for entry in entries if entry]
        return {member.client: member for member in trained}

    def keep_members(self, members: list[Member]) -> None:
        """Members that are trained; those that cannot be written are trained again."""
        for member in members:
            entry = write_member(self.path, member)
            if is_whole(entry):
                write_json(self.path / f"member_{member.client:02d}.json", entry)

    def scores(self) -> dict[str, Tensor] | None:
        """What members said, or None if they were not asked."""
        bundle = self._bundle("scores")
        return None if bundle is None else bundle[1]

    def keep_scores(self, train: Tensor, test: Tensor) -> None:
        """What members say of the proxies and of the test set."""
        self._write("scores", {}, {"train": train, "test": test})

    def rule(self, rule: Rule, panel: Panel) -> tuple[Fit, OutOfFold | None] | None:
        """A rule as it was fitted, on all proxies and out of fold, or None."""
        name = f"rule_{slug(rule.name)}"
        bundle = self._bundle(name)
        if bundle is None:
            return None
        entry, tensors = bundle
        votes, folds = tensors.pop("votes", None), tensors.pop("folds", None)
        module = rule.build(panel, votes)
        state = {key.removeprefix("module."): value for key, value in tensors.items()}
        fill(module, state, self.path / f"{name}.safetensors")
        curve = tuple((int(done), float(value)) for done, value in entry["curve"])
        facts = (entry["bytes_sent"], entry["parameters"], entry["seconds"])
        fit = Fit(rule, module.eval(), *facts, votes, curve, tuple(entry.get("peers", ())))
        return fit, None if folds is None else OutOfFold(folds, entry["judging"])

    def keep_rule(self, fit: Fit, folds: OutOfFold | None) -> None:
        """A rule that was fitted, and out of fold where it was."""
        tensors = {f"module.{key}": value for key, value in fit.module.state_dict().items()}
        if fit.votes is not None:
            tensors["votes"] = fit.votes
        if folds is not None:
            tensors["folds"] = folds.rows
        facts = {
            "bytes_sent": fit.bytes_sent,
            "parameters": fit.parameters,
            "seconds": fit.seconds,
            "curve": [list(point) for point in fit.curve],
            "peers": list(fit.peers),
            "judging": folds.bytes_sent if folds else 0,
        }
        self._write(f"rule_{slug(fit.rule.name)}", facts, tensors)

    def baseline(self, method: str) -> dict[str, Any] | None:
        """A baseline's line of the table, or None."""
        return self._read(f"baseline_{slug(method)}")

    def keep_baseline(self, method: str, line: Mapping[str, Any]) -> None:
        """A baseline's line of the table."""
        write_json(self.path / f"baseline_{slug(method)}.json", dict(line))

    def seconds(self) -> dict[str, float]:
        """What each phase took before the run was interrupted."""
        return self._read("seconds") or {}

    def keep_seconds(self, seconds: Mapping[str, float]) -> None:
        """What each phase has taken."""
        write_json(self.path / "seconds.json", dict(seconds))

    def _write(self, name: str, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        write_bundle(self.path / name, facts, tensors)

    def _bundle(self, name: str) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        if not bundle_file(self.path / name).exists():
            return None
        return read_bundle(self.path / name, _REMEDY)

    def _read(self, name: str) -> dict[str, Any] | None:
        file = self.path / f"{name}.json"
        return read_facts(file, _REMEDY) if file.exists() else None
