"""FedEraser: go the stored way again without the leavers (Liu et al., IWQoS 2021).

From the initial model, for every round whose updates the server has kept: the clients that stay
train ``share`` of their local steps, and their update is stretched, tensor by tensor, to the length
of the one that is stored,

    U <- |U_stored| / |U_new| * U_new.

An update that was kept every k rounds stands for k of them, the last for as many as are left: the
server takes its step so many times, along an update that changes with the schedule's rate. The
first stored round is taken as it is, unless something else than clients was forgotten before, which
it still knows. The published formula divides by K - 1 and also normalises the weights; here the
server goes its own way, as in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.engine.history import UPDATES
from hansa.forget.case import Case
from hansa.forget.federation import Asking, Federation
from hansa.forget.method import Forgetting
from hansa.forget.original_training import OriginalTraining
from hansa.forget.portions import Held
from hansa.forget.request import Level, Request
from hansa.models import ParameterLayout

if TYPE_CHECKING:
    from torch import Tensor


FEW = 5
"""Kept rounds below which little can be rebuilt from them."""


@register(
    "federaser",
    paper="Liu et al.",
    year=2021,
    url="https://doi.org/10.1109/IWQOS52092.2021.9521274",
)
class FedEraser(Forgetting):
    """Repeat the stored rounds of training in fewer steps, without the leavers."""

    levels: ClassVar[tuple[Level, ...]] = ("client",)
    share: float = Field(
        0.5, gt=0, le=1, description="share of a round's local steps that is repeated"
    )
    calibrate: bool = Field(
        True, description="false: add up the stored updates of those who stay (FedAccum)"
    )

    def check(self, case: Case) -> None:
        super().check(case)
        if not case.updates_every:
            raise ConfigError(
                "method",
                "federaser",
                "needs the clients' updates, and this run kept none",
                "train with algorithm.keep_updates: 2; or --method quickdrop, sga or pgd",
            )
        if not self.calibrate and not _only_clients(case.past):
            problem = f"the stored updates still know {case.past}, which was forgotten before"
            raise ConfigError("calibrate", False, problem, "calibrate: true")

    def caveats(self, case: Case) -> list[str]:
        stored = case.server.kept[UPDATES][0]
        rounds = stored_rounds(stored, case.updates_every, case.done)
        kept = sum(1 for _, _, updates in rounds if updates.any())
        if kept >= FEW:
            return []
        return [
            f"federaser has the updates of only {kept} of {case.done} rounds, and what "
            f"remains will suffer; algorithm.keep_updates: 1 keeps all, here it was "
            f"{case.updates_every}"
        ]

    def forget(self, federation: Federation) -> Asking[tuple[Tensor, dict[str, Any]]]:
        assert federation.updates is not None  # check saw to it
        layout, training = federation.network.layout, OriginalTraining(federation)
        row = layout.flatten(federation.plan.module).to(federation.row)
        server, growth = training.server(row), federation.plan.growth
        staying, kept_rounds = (yield from federation.real(forget=False)), 0
        every = federation.updates_every
        with federation.ledger.phase("erasing"):
            for t, span, stored in stored_rounds(federation.updates, every, federation.rounds):
                contributors = [one for one in staying if stored[one.client].any()]
                if not contributors:
                    continue
                updates = [stored[one.client].to(row) for one in contributors]
                if self.calibrate and (kept_rounds or not _only_clients(federation.past)):
                    updates = yield from self._calibrated(training, row, contributors, updates, t)
                update = federation.average(updates, training.masses(contributors))
                for later in range(t, t + span):
                    server(row, update * growth(t, later))
                kept_rounds += 1
        return row, {"rounds": kept_rounds, "stored_bytes": federation.updates.numel() * 4}

    def _calibrated(
        self,
        training: OriginalTraining,
        row: Tensor,
        there: list[Held],
        stored: list[Tensor],
        t: int,
    ) -> Asking[list[Tensor]]:
        """New updates [P] of clients in round ``t``, as long as the stored ones."""
        layout = training.federation.network.layout
        size = layout.trainable
        models = yield from training.train(row, there, t, self.share)
        pairs = zip(stored, models, strict=True)
        return [calibrated(old, model[:size] - row[:size], layout) for old, model in pairs]


def stored_rounds(updates: Tensor, every: int, done: int) -> Iterator[tuple[int, int, Tensor]]:
    """(round, how many rounds it stands for, updates [clients, P]) of each that was kept.

    Args:
        updates: float32 [slots, clients, P], kept in one of ``every`` so many rounds.
        done: rounds of training that there were.
    """
    for t, stored in zip(range(0, done, every), updates, strict=False):
        yield t, min(every, done - t), stored


def _only_clients(past: Request) -> bool:
    """Whether clients alone were forgotten before."""
    return past.levels <= {"client"}


def calibrated(stored: Tensor, new: Tensor, layout: ParameterLayout) -> Tensor:
    """Each tensor of the update ``new`` [P] at the length of the stored one's."""
    update = torch.zeros_like(new)
    for entry in (entry for entry in layout.entries if entry.trainable):
        part = slice(entry.offset, entry.offset + entry.size)
        norm = new[part].norm()
        if norm > 0:
            update[part] = new[part] * (stored[part].norm() / norm)
    return update
