"""Rules that count votes: each client tallies its own proxies, and a server adds."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hansa.base.lazy import torch
from hansa.codec import Dense, whole_rows
from hansa.combine.ensemble.proxies import Scores
from hansa.combine.ensemble.rule_model import Carrier
from hansa.engine import Algorithm, Block, Script, Send, TrainSettings, star_to
from hansa.ensemble import Panel, Rule, tally
from hansa.experiment.played import HERE, Place, job_of, play
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor


class OverScores(Algorithm):
    """What clients do with their own scores of their own proxies, and one server between them."""

    uses_topology: ClassVar[bool] = False
    unattackable: ClassVar[str] = "works on the scores of models that are trained"

    form: Carrier

    def servers(self, clients: int) -> int:
        return 1

    def members(self, block: Block) -> np.ndarray:
        return np.full(block.clients, block.clients)

    def center(self, block: Block) -> np.ndarray:
        """The server's position in the block, where it lives there."""
        return block.positions(np.array([block.clients]))

    def holders(self, block: Block) -> np.ndarray:
        """Positions of the block's clients."""
        return block.positions(np.arange(block.clients))

    def own(self, block: Block, k: int) -> tuple[Tensor, Tensor]:
        """The scores [m, M * C (+ F)] that a client has of its proxies, and their classes [m]."""
        dataset, part = block.trainer.dataset, block.parts[k]
        return dataset.gather(dataset.train, torch.from_numpy(part))

    def said(self, panel: Panel, rows: Tensor) -> Tensor:
        """What each member said, [M, m, C]."""
        return panel.scores(rows).transpose(0, 1)

    def summed(
        self, block: Block, rows: list[Tensor], width: int, kind: str
    ) -> Generator[Any, Any, Tensor | None]:
        """The sum of rows [width] that all clients send to the server, float64; None elsewhere."""
        holders, center = self.holders(block), self.center(block)
        up = star_to(block.clients, block.nodes)
        sent = torch.stack(rows).float() if rows else torch.zeros(0, width)
        inbox = yield Send(sent, up, Dense(), kind, senders=holders, on_missing="wait")
        if not len(center):
            return None
        return whole_rows(inbox.messages(int(center[0]))[1]).double().sum(0)

    def handed(
        self, block: Block, row: Tensor | None, width: int, kind: str
    ) -> Generator[Any, Any, list[Tensor]]:
        """A row [width] of the server's, as each of the block's clients gets it."""
        holders, center = self.holders(block), self.center(block)
        down = star_to(block.clients, block.nodes).transpose()
        sent = torch.zeros(0, width) if row is None else row.detach().float().reshape(1, width)
        inbox = yield Send(sent, down, Dense(), kind, senders=center, on_missing="wait")
        if not len(holders):
            return []
        table, which = inbox.table(holders)
        return [table[int(k)] for k in which]


class Tallying(OverScores):
    """One round: tallies of all proxies go up, and that is all."""

    def round(self, block: Block, t: int) -> Script:
        panel = self.form.panel
        own = [self.own(block, k) for k in self.holders(block).tolist()]
        tallies = [tally(self.said(panel, rows), targets).flatten() for rows, targets in own]
        votes = yield from self.summed(block, tallies, panel.members * panel.classes**2, "tally")
        if votes is not None:
            block.events.append({"kind": "tallied", "votes": votes.long().tolist()})


def tallied(
    rule: Rule, scores: Scores, seed: int, path: Path, place: Place = HERE
) -> tuple[Tensor, int]:
    """(votes [M, classes, classes], bytes sent): what the clients' tallies come to.

    Args:
        path: a folder for the run.

    Raises:
        RunError: something failed on the way.
    """
    panel = scores.panel
    form = Carrier.of(panel)
    played = over_scores(Tallying(form=form), rule, scores, seed, path, place)
    events = RunFolder.open(path).events()
    votes = next(event["votes"] for event in events if event["kind"] == "tallied")
    shape = (panel.members, panel.classes, panel.classes)
    return torch.tensor(votes, dtype=torch.float64).view(shape), played


def over_scores(
    work: OverScores,
    rule: Rule,
    scores: Scores,
    seed: int,
    path: Path,
    place: Place = HERE,
    numbers: Tensor | None = None,
    rounds: int = 1,
) -> int:
    """Have the holders of proxies do something with them; the bytes that they and the server send.

    Args:
        rule: which rows of the scores are needed.
        numbers: what the server begins with, as many as the form carries.
    """
    dataset = scores.dataset(rule, "scores")
    module = work.form.build(dataset.spec)
    if numbers is not None:
        with torch.no_grad():
            module.get_parameter("numbers").copy_(numbers)
    job = job_of(
        dataset=dataset,
        parts=[part for part in scores.parts if len(part)],
        module=module,
        algorithm=work,
        train=TrainSettings(),
        rounds=rounds,
        seed=seed,
        every=rounds,
        form=work.form,
        plugins=place.plugins,
    )
    played = play(path, job, config={"work": work.dump()}, place=place)
    return played.bytes_sent
