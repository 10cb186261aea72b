"""Training a set network against liars: masks, the inner attack, one step, the epoch that is kept.

Adversarial training of robust federated inference (2025), its algorithm 1, with clean gradients:
the attack's own never reach the parameters. Which epoch is kept is decided by a part of the
server's examples that is held out, under the same attack; the published code takes the test set.
The inner attack ``kvote`` is ours: each liar's row is one-hot, all on the class that hurts most.

The mean pools in training, so honest rows count by their sum alone, and each example is encoded
once for all its sets of liars in a batch. What liars try costs their own rows, one-hot ones K.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hansa.base.lazy import functional, torch, without_gradients
from hansa.base.streams import Streams
from hansa.infer.robust.server_set import ServerSet

if TYPE_CHECKING:
    from torch import Tensor

CONFIDENCE = 0.1
"""A wrong answer ahead by so much is wrong enough (Carlini and Wagner, 2017)."""
_JUDGING = 8  # sets of liars that a held-out example is judged under


@dataclass(frozen=True)
class TrainingPlan:
    """How a set network is trained; see the settings of ``deep_set``."""

    inner: Literal["none", "adversarial", "kvote"]
    lr: float
    decay: float
    epochs: int
    batch_size: int
    masks: int
    steps: int
    step_size: float
    candidates: int
    chosen_by: Literal["attacked", "clean"] = "attacked"


def liar_counts(members: int, f: int) -> np.ndarray:
    """The chance that 0 .. f of the members lie in training, float64 [f + 1].

    0.7 of it in proportion to the number of such sets, 0.3 spread evenly, as published.
    """
    sets = np.array([math.comb(members, k) for k in range(f + 1)], dtype=np.float64)
    return 0.7 * sets / sets.sum() + 0.3 / (f + 1)


def draw_masks(count: int, members: int, f: int, rng: np.random.Generator) -> np.ndarray:
    """Who lies, bool [count, members]: first how many, then which, all sets of that size alike."""
    how_many = rng.choice(f + 1, size=count, p=liar_counts(members, f))
    place = rng.random((count, members)).argsort(1).argsort(1)
    return place < how_many[:, None]


@dataclass(frozen=True)
class Attacked:
    """Examples, each with some sets of members who lie about it.

    Attributes:
        rows: [u, n, K], honest.
        at: int64 [b], whose set of liars it is.
        labels: int64 [b].
        mask: bool [b, n].
    """

    rows: Tensor
    at: Tensor
    labels: Tensor
    mask: Tensor

    @classmethod
    def of(cls, server: ServerSet, which: np.ndarray, mask: np.ndarray) -> Attacked:
        """Examples int64 [b] of a server set, each taken once, under liars bool [b, n]."""
        once, at = np.unique(which, return_inverse=True)
        some = server.take(once)
        where = torch.from_numpy(at.reshape(-1))
        return cls(some.probabilities, where, some.labels[where], torch.from_numpy(mask))

    def lying(self) -> Tensor:
        """Which of a set's places are liars', those first, bool [b, f]."""
        counts = self.mask.sum(1)
        return torch.arange(int(counts.max())) < counts[:, None]


def shortfall(shares: Tensor, labels: Tensor) -> Tensor:
    """How far answers [b, K] are from being wrong by ``CONFIDENCE``, at least 0: [b]."""
    own = shares.gather(1, labels[:, None])[:, 0]
    other = shares.scatter(1, labels[:, None], -torch.inf).max(1).values
    return (own - other + CONFIDENCE).clamp(min=0)


def ascend(
    scores: Callable[[Tensor], Tensor],
    labels: Tensor,
    lies: Tensor,
    steps: int,
    step_size: float,
    shares: Callable[[Tensor], Tensor],
) -> Tensor:
    """Lies [b, f, K] that multi-step FGSM finds from logits (PGD-cw), the best of its steps.

    Args:
        scores: lies as probabilities [b, f, K] -> scores [b, K].
        lies: logits to begin with.
        shares: scores as what their margin is measured in.
    """
    best, least = torch.softmax(lies, -1), torch.full((len(lies),), torch.inf, dtype=lies.dtype)
    for step in range(steps + 1):
        free = lies.detach().requires_grad_(step < steps)
        sent = torch.softmax(free, -1)
        left = shortfall(shares(scores(sent)), labels)
        with torch.no_grad():
            better = left < least
            least = torch.where(better, left, least)
            best = torch.where(better[:, None, None], sent, best)
        if step == steps or not bool((left > 0).any()):
            break
        (slope,) = torch.autograd.grad(left.sum(), free)  # of the lies alone
        lies = free.detach() - step_size * slope.sign()
    return best.detach()


class Inner:
    """A network, with the mean as its pooling, whose liars do their worst against it."""

    def __init__(self, network: Any, plan: TrainingPlan, rng: np.random.Generator) -> None:
        self.network, self.plan = network, plan
        self.rng = rng

    def __call__(self, batch: Attacked) -> Tensor:
        """Logits [b, K] of the attacked rows; how lies were found is not in their graph."""
        encoded = self.network.encoder(batch.rows)
        # One product: to gather each example's rows for each of its sets takes five times as long.
        counted = torch.zeros(len(batch.at), *batch.rows.shape[:2])
        counted[torch.arange(len(batch.at)), batch.at] = (~batch.mask).float()
        honest = counted.flatten(1) @ encoded.flatten(0, 1)
        if bool(batch.mask.any()):
            kvote = self.plan.inner == "kvote"
            honest = honest + (self._votes if kvote else self._steps)(batch, honest.detach())
        logits: Tensor = self.network.decoder(honest / batch.rows.shape[1])
        return logits

    def _steps(self, batch: Attacked, honest: Tensor) -> Tensor:
        """The sum [b, d] of the liars' encoded rows, found by gradient steps."""
        members, classes = batch.rows.shape[1:]
        lying = batch.lying().unsqueeze(-1)
        begin = torch.from_numpy(self.rng.random((*lying.shape[:2], classes), dtype=np.float32))

        def scores(sent: Tensor) -> Tensor:
            own = (self.network.encoder(sent) * lying).sum(1)
            return self.network.decoder((honest + own) / members)

        steps, size = self.plan.steps, self.plan.step_size
        lies = ascend(scores, batch.labels, begin, steps, size, lambda s: s.softmax(-1))
        encoded: Tensor = (self.network.encoder(lies) * lying).sum(1)
        return encoded

    def _votes(self, batch: Attacked, honest: Tensor) -> Tensor:
        """The sum [b, d] of the liars' encoded rows, all one-hot at the class that hurts most."""
        members, classes = batch.rows.shape[1:]
        encoded = self.network.encoder(torch.eye(classes))  # [K, d]
        liars = batch.mask.sum(1, keepdim=True)
        with torch.no_grad():
            tried = self._candidates(batch)  # [b, T]
            pooled = (honest.unsqueeze(1) + liars.unsqueeze(1) * encoded[tried]) / members
            logits = self.network.decoder(pooled)  # [b, T, K]
            labels = batch.labels[:, None].expand_as(tried)
            losses = functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), reduction="none"
            ).view_as(tried)
            losses = losses.masked_fill(tried == labels, -torch.inf)
            worst = tried.gather(1, losses.argmax(1, keepdim=True))[:, 0]
        return liars * encoded[worst]

    def _candidates(self, batch: Attacked) -> Tensor:
        """Classes [b, T] that liars try: all, or the likeliest and as many again at random."""
        classes, most = batch.rows.shape[2], self.plan.candidates
        if classes <= most:
            return torch.arange(classes).expand(len(batch.at), -1)
        near = batch.rows.mean(1).topk((most + 1) // 2, -1).indices[batch.at]
        drawn = self.rng.integers(classes, size=(len(batch.at), most // 2))
        return torch.cat([near, torch.from_numpy(drawn)], 1)


def train(
    network: Any,
    learning: ServerSet,
    judging: ServerSet,
    f: int,
    plan: TrainingPlan,
    streams: Streams,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Tensor]:
    """The network's numbers at the epoch with the least attacked loss on the judging examples.

    Where nobody lies in training (``none``), the losses are those of honest rows; ``chosen_by:
    clean`` asks for the best honest accuracy instead.
    """
    rng = streams.numpy("set training")
    liars = 0 if plan.inner == "none" else f
    # Nobody lies: the same examples as often, so that the rules compared take as many steps.
    which = np.repeat(np.arange(len(learning)), plan.masks)
    masks = draw_masks(len(which), learning.members, liars, rng)
    seen = np.repeat(np.arange(len(judging)), _JUDGING if liars else 1)
    judged = Attacked.of(judging, seen, draw_masks(len(seen), learning.members, liars, rng))
    inner = Inner(network, plan, rng)
    adam = _Adam(list(network.parameters()), plan.lr)
    best, least = copy.deepcopy(network.state_dict()), math.inf
    for epoch in range(1, plan.epochs + 1):
        for some in _batches(rng.permutation(len(which)), plan.batch_size):
            batch = Attacked.of(learning, which[some], masks[some])
            loss = functional.cross_entropy(inner(batch), batch.labels)
            adam.step(torch.autograd.grad(loss, adam.parameters))
        adam.lr *= plan.decay
        held = float(functional.cross_entropy(inner(judged).detach(), judged.labels))
        rank = held if plan.chosen_by == "attacked" else _clean_rank(network, judging)
        if rank < least:
            best, least = copy.deepcopy(network.state_dict()), rank
        say(f"epoch {epoch} of {plan.epochs}, held-out loss {held:.3f}")
    return {name: tensor.detach().clone() for name, tensor in best.items()}


@without_gradients
def _clean_rank(network: Any, judging: ServerSet) -> float:
    """Smaller is better: honest accuracy first, and among equals the loss."""
    logits = network(judging.probabilities)
    wrong = int((logits.argmax(-1) != judging.labels).sum())
    return wrong + 1 - 1 / (1 + float(functional.cross_entropy(logits, judging.labels)))


def _batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    ends = [*range(0, len(order), size), len(order)]
    return [order[a:b] for a, b in itertools.pairwise(ends)]


class _Adam:
    """Adam (Kingma and Ba, 2015) for a few tensors; torch's own takes seconds to be imported."""

    def __init__(self, parameters: list[Tensor], lr: float) -> None:
        self.parameters, self.lr, self.done = parameters, lr, 0
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]

    @without_gradients
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move the parameters, with beta 0.9 and 0.999."""
        self.done += 1
        scale = self.lr * math.sqrt(1 - 0.999**self.done) / (1 - 0.9**self.done)
        floor = 1e-8 * math.sqrt(1 - 0.999**self.done)
        each = zip(self.parameters, gradients, self.first, self.second, strict=True)
        for parameter, gradient, first, second in each:
            first.lerp_(gradient, 0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            parameter.addcdiv_(first, second.sqrt().add_(floor), value=-scale)
