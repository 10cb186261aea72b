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
from hansa.forget.federation import Federation
from hansa.forget.holdings import Real
from hansa.forget.method import Forgetting
from hansa.forget.original_training import OriginalTraining
from hansa.forget.request import Level
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

    def check(self, federation: Federation) -> None:
        super().check(federation)
        if federation.updates is None:
            raise ConfigError(
                "method",
                "federaser",
                "needs the clients' updates, and this run kept none",
                "train with algorithm.keep_updates: 2; or --method quickdrop, sga or pgd",
            )
        if not self.calibrate and not _only_clients(federation):
            problem = f"the stored updates still know {federation.past}, which was forgotten before"
            raise ConfigError("calibrate", False, problem, "calibrate: true")

    def caveats(self, federation: Federation) -> list[str]:
        kept = sum(1 for _, _, stored in stored_rounds(federation) if stored.any())
        if kept >= FEW:
            return []
        return [
            f"federaser has the updates of only {kept} of {federation.rounds} rounds, and what "
            f"remains will suffer; algorithm.keep_updates: 1 keeps all, here it was "
            f"{federation.updates_every}"
        ]

    def forget(self, federation: Federation) -> tuple[Tensor, dict[str, Any]]:
        assert federation.updates is not None  # check saw to it
        layout, training = federation.network.layout, OriginalTraining(federation)
        row = layout.flatten(federation.job.module).to(federation.row)
        server = training.server(row)
        staying, kept_rounds = federation.real(forget=False), 0
        with federation.ledger.phase("erasing"):
            for t, span, stored in stored_rounds(federation):
                contributors = [h for h in staying if stored[h.client].any()]
                if not contributors:
                    continue
                updates = [stored[holding.client].to(row) for holding in contributors]
                if self.calibrate and (kept_rounds or not _only_clients(federation)):
                    updates = self._calibrated(training, row, contributors, updates, t)
                update = federation.average(updates, training.masses(contributors))
                for later in range(t, t + span):
                    server(row, update * training.growth(t, later))
                kept_rounds += 1
        return row, {"rounds": kept_rounds, "stored_bytes": federation.updates.numel() * 4}

    def _calibrated(
        self,
        training: OriginalTraining,
        row: Tensor,
        there: list[Real],
        stored: list[Tensor],
        t: int,
    ) -> list[Tensor]:
        """New updates [P] of clients in round ``t``, as long as the stored ones."""
        layout = training.federation.network.layout
        size = layout.trainable
        models = training.train(row, there, t, self.share)
        pairs = zip(stored, models, strict=True)
        return [calibrated(old, model[:size] - row[:size], layout) for old, model in pairs]


def stored_rounds(federation: Federation) -> Iterator[tuple[int, int, Tensor]]:
    """(round, how many rounds it stands for, updates [clients, P]) of each that was kept."""
    assert federation.updates is not None
    every = federation.updates_every
    for t, stored in zip(range(0, federation.rounds, every), federation.updates, strict=False):
        yield t, min(every, federation.rounds - t), stored


def _only_clients(federation: Federation) -> bool:
    """Whether clients alone were forgotten before."""
    return federation.past.levels <= {"client"}


def calibrated(stored: Tensor, new: Tensor, layout: ParameterLayout) -> Tensor:
    """Each tensor of the update ``new`` [P] at the length of the stored one's."""
    update = torch.zeros_like(new)
    for entry in (entry for entry in layout.entries if entry.trainable):
        part = slice(entry.offset, entry.offset + entry.size)
        norm = new[part].norm()
        if norm > 0:
            update[part] = new[part] * (stored[part].norm() / norm)
    return update
