"""GeL, guess and learn: after its last gradient step a node goes on without gradients.

After "Boosting Federated Learning in Resource-Constrained Networks" (arXiv 2110.11486 v3; IEEE
TPDS 36(8), 2025). The formula here is OUR RECONSTRUCTION from the abstracts and
was not verified against the paper; it is a *momentum-continuation guess*. With x, m after u
gradient steps of heavy ball and G guesses::

    m <- beta rho m;  x <- x - lr m          (G times), or in closed form
    x <- x - lr q (1 - q^G) / (1 - q) m      with q = beta rho

The first version of the paper (2021) guesses from Adam's moments and the last gradient: here each
guess feeds Adam the last gradient once more. Guesses read no data, pass through no model and put
nothing more on the wire. Weight decay and corrections act in gradient steps only. What never had
a gradient or momentum stays as it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.engine.training.optimizers import SGD, Guessed, Optimizer

if TYPE_CHECKING:
    from torch import Tensor

_FORGOTTEN = 2.0**-24  # what is left of a buffer that float32 no longer tells from nothing


@register(
    "gel",
    paper="Boosting Federated Learning in Resource-Constrained Networks",
    year=2025,
    url="https://arxiv.org/abs/2110.11486",
)
class GeL(Optimizer):
    """Guessed steps after the gradient steps of another optimizer (our reconstruction of GeL).

    By default a guess goes along the momentum only while that still points downhill, and no
    further than the node's own steps led: at too large a learning rate unchecked guesses wreck
    a run. The plain form is ``cosine_gate: null, trust_region: null``.
    """

    lr: float = Field(0.05, gt=0, description="learning rate; by default the wrapped optimizer's")
    weight_decay: float = Field(
        0.0, ge=0, description="L2 penalty; by default the wrapped optimizer's"
    )
    optimizer: Optimizer = Field(
        SGD(momentum=0.9), description="takes the gradient steps: sgd with momentum, or adam"
    )
    policy: Literal["fixed", "fill", "limit"] = Field(
        "fixed",
        description="guesses a round: as many as guesses says; as many as are missing to the "
        "steps asked for; or until the momentum is spent",
    )
    guesses: int = Field(10, ge=0, description="guesses a round with policy fixed")
    guess: Literal["auto", "momentum", "gradient"] = Field(
        "auto",
        description="go on along the momentum (sgd), or step with the last gradient again (others)",
    )
    decay: float = Field(1.0, gt=0, le=1, description="extra factor on each guess after another")
    cosine_gate: float | None = Field(
        0.0,
        ge=-1,
        lt=1,
        description="guess only while the cosine of momentum and last gradient is above this; "
        "null: always",
    )
    trust_region: float | None = Field(
        1.0,
        gt=0,
        description="the longest that all guesses lead, as a multiple of what the gradient steps "
        "of the round led; null: unlimited",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_rate(cls, values: Any) -> Any:
        """``lr`` and ``weight_decay`` are the wrapped optimizer's, whichever place they stand."""
        if not isinstance(values, dict):
            return values
        settings = dict(values)
        try:
            inner = Optimizer.resolve(settings.get("optimizer", SGD(momentum=0.9)))
        except ConfigError as error:
            raise error.under("optimizer") from None
        for field in ("lr", "weight_decay"):
            own = getattr(inner, field)
            if field not in settings:
                settings[field] = own
            elif field in inner.model_fields_set and settings[field] != own:
                fix = f"set optimizer.{field}, or this alone"
                raise ConfigError(field, settings[field], f"optimizer.{field} is {own}", fix)
        # The rates of the copy are set once this one's are validated.
        settings["optimizer"] = inner
        return settings

    @model_validator(mode="after")
    def _check(self) -> Self:
        inner = self.optimizer
        if isinstance(inner, GeL):
            raise ConfigError("optimizer", "gel", "guesses cannot be nested", "sgd or adam")
        if isinstance(inner, SGD) and inner.nesterov:
            raise ConfigError("optimizer.nesterov", True, "has no buffer to go on along", "false")
        if not isinstance(inner, SGD) and self.guess == "momentum":
            raise ConfigError("guess", "momentum", f"{inner.name} has none", "gradient, or auto")
        if self.policy == "limit" and self._repeats:
            fix = "fixed or fill, or guess: momentum"
            raise ConfigError("policy", "limit", "repeated gradients never end", fix)
        rates = {"lr": self.lr, "weight_decay": self.weight_decay}
        self.__dict__["optimizer"] = inner.model_copy(update=rates)
        return self

    @property
    def _repeats(self) -> bool:
        """Whether a guess is a step with the last gradient again."""
        return self.guess == "gradient" or not isinstance(self.optimizer, SGD)

    @property
    def _keeps(self) -> float:
        """q: what is left of the buffer after a guess."""
        return self.optimizer.momentum * self.decay if isinstance(self.optimizer, SGD) else 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        return self.optimizer.slots

    def step_(
        self, rows: Tensor, grads: Tensor, slots: dict[str, Tensor], count: Tensor, lr: float
    ) -> None:
        self.optimizer.step_(rows, grads, slots, count, lr)

    def effective_steps(self, steps: np.ndarray) -> np.ndarray:
        """Of the gradient steps; what guesses add, :meth:`finish_` tells."""
        return self.optimizer.effective_steps(steps)

    @property
    def finishes(self) -> bool:
        return True

    @property
    def needs_start(self) -> bool:
        return self.trust_region is not None

    def finish_(
        self,
        rows: Tensor,
        grads: Tensor,
        slots: dict[str, Tensor],
        start: Tensor | None,
        steps: np.ndarray,
        count: Tensor,
        lr: float,
        asked: np.ndarray,
    ) -> Guessed | None:
        number = self.wanted(steps, asked)
        if number.any() and self.cosine_gate is not None:
            direction = slots["momentum"] if "momentum" in slots else slots.get("mean", grads)
            cosine = torch.cosine_similarity(direction, grads, dim=1, eps=0.0)
            number = np.where((cosine > self.cosine_gate).cpu().numpy(), number, 0)
        if not number.any():
            return Guessed(number.astype(np.float64), np.zeros(len(number)))
        shed = np.zeros(len(number))
        if self._repeats:
            move = self._repeat(rows, grads, slots, number, count, lr)
            after = self.optimizer.effective_steps(steps + number)
            effective = after - self.optimizer.effective_steps(steps)
        else:
            move, effective, shed = self._continue_(slots["momentum"], steps, number, lr)
        if self.trust_region is not None and start is not None:
            scale = self._scale(move, rows, start)
            move.mul_(scale)
            cut = scale.squeeze(1).double().cpu().numpy()
            effective, shed = effective * cut, shed * cut
        rows.add_(move)
        if shed.any():  # what the buffer had to give, as far as it was followed
            momentum = slots["momentum"]
            momentum.mul_(torch.from_numpy(1 - shed).to(momentum).unsqueeze(1))
        return Guessed(number.astype(np.float64), effective)

    def wanted(self, steps: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Guesses [k] that the policy asks for, before the gate."""
        if not (self._repeats or self._keeps):
            return np.zeros(len(steps), dtype=np.int64)
        if self.policy == "fill":
            return np.maximum(asked - steps, 0)
        number = self.guesses
        if self.policy == "limit":
            number = math.ceil(math.log(_FORGOTTEN) / math.log(self._keeps))
        return np.full(len(steps), number, dtype=np.int64)

    def _continue_(
        self, momentum: Tensor, steps: np.ndarray, number: np.ndarray, lr: float
    ) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """All guesses along the buffer at once.

        Returns:
            (their displacement, their weight [k], the share of the buffer that they use up [k]).
        """
        q, beta = self._keeps, self.optimizer.momentum  # type: ignore[attr-defined]
        left = q ** number.astype(np.float64)
        buffers = q * (1 - left) / (1 - q)
        move = momentum * torch.from_numpy(-lr * buffers).to(momentum).unsqueeze(1)
        weight = buffers * (1 - beta ** steps.astype(np.float64)) / (1 - beta)
        return move, weight, 1 - left

    def _repeat(
        self,
        rows: Tensor,
        grads: Tensor,
        slots: dict[str, Tensor],
        number: np.ndarray,
        count: Tensor,
        lr: float,
    ) -> Tensor:
        """The displacement of steps with the last gradient again.

        On copies of the state: what a node keeps between rounds stays that of real gradients.
        """
        inner = self.optimizer.model_copy(update={"weight_decay": 0.0})
        ahead, kept = rows.clone(), {name: slot.clone() for name, slot in slots.items()}
        for j in range(int(number.max())):
            who = torch.from_numpy(np.flatnonzero(number > j)).to(rows.device)
            some = {name: slot[who] for name, slot in kept.items()}
            part, at = ahead[who], count[who.to(count.device)] + (j + 1)
            inner.step_(part, grads[who], some, at, lr * self.decay ** (j + 1))
            ahead[who] = part
            for name, slot in kept.items():
                slot[who] = some[name]
        return ahead.sub_(rows)

    def _scale(self, move: Tensor, rows: Tensor, start: Tensor) -> Tensor:
        """Factor [k, 1] that keeps each displacement within the trust region."""
        assert self.trust_region is not None
        own = torch.linalg.vector_norm(rows - start, dim=1, keepdim=True)
        length = torch.linalg.vector_norm(move, dim=1, keepdim=True)
        allowed = self.trust_region * own
        return torch.where(length > allowed, allowed / length, torch.ones_like(length))
