"""Networks of ratings, whose numbers lie by user and by item; loaded when one is built."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hansa.base.threads import over_rows
from hansa.models.model import chain
from hansa.models.rating_kernels import descend, rate


class RatingNetwork(nn.Module):
    """int64 [..., 2] (user, item) -> [..., 1], a rating in stars.

    A row of its numbers is made of *groups* of ``group`` numbers: a user's, user by user, then an
    item's, item by item, then what all ratings share, filled up with frozen zeros to whole groups.

    Attributes:
        known: (U, I), how many users and items there are.
        group: numbers a group.
    """

    in_rows = ("filling",)

    def __init__(self, users: int, items: int, group: int) -> None:
        super().__init__()
        self.known = (users, items)
        self.group = group
        self.users = nn.Embedding(users, group)
        self.items = nn.Embedding(items, group)

    def fill(self) -> None:
        """Fill what is shared up to whole groups; the last thing that a subclass does to be made.

        Frozen numbers lie behind all that is trained.
        """
        numbers = sum(p.numel() for p in self.parameters())
        if lacking := -numbers % self.group:
            self.filling = nn.Parameter(torch.zeros(lacking), requires_grad=False)

    @property
    def groups(self) -> int:
        """How many groups a row has: U + I, and those that are shared."""
        return sum(p.numel() for p in self.parameters()) // self.group

    @abstractmethod
    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """The ratings [k] of users, int64 [k], for items, int64 [k]."""

    def scores(self, users: Tensor) -> Tensor:
        """The ratings [m, I] of users, int64 [m], for every item."""
        items = torch.arange(self.known[1], device=users.device)
        every = [self.pairs(user.expand(len(items)), items) for user in users]
        return torch.stack(every) if every else self.users.weight.new_zeros(0, len(items))

    def forward(self, x: Tensor) -> Tensor:
        """The predicted ratings."""
        flat = x.reshape(-1, 2)
        return self.pairs(flat[:, 0], flat[:, 1]).reshape(*x.shape[:-1], 1)


class Factors(RatingNetwork):
    """unit * (mean + user's bias + item's bias + product of their factors).

    A group is a vector and, last in it, its bias. With ``small`` a user without ratings is given
    mean + the item's bias, and an item without ratings mean + the user's bias, but for the user's
    factors times its small ones.

    Args:
        factors: k; a group is k + 1 numbers.
        biases: whether they are trained and counted.
        mean: ``learned`` is one shared number, ``fixed`` a constant, ``none`` is 0.
        start: what the mean is at first, in stars.
        unit: stars to one of what the numbers add up to.
        init: see :class:`~hansa.models.recommendation.MatrixFactorization`.
    """

    def __init__(
        self,
        users: int,
        items: int,
        factors: int,
        biases: bool = True,
        mean: str = "learned",
        start: float = 0.0,
        unit: float = 1.0,
        init: str = "small",
    ) -> None:
        super().__init__(users, items, factors + 1)
        self.factors, self.biases, self.unit = factors, biases, unit
        self.constant = start / unit if mean == "fixed" else 0.0
        # In a module of its own, so that it comes after the tables.
        shared = {"mean": nn.Parameter(torch.full((1,), start / unit))}
        self.shared = nn.ParameterDict(shared if mean == "learned" else {})
        with torch.no_grad():
            self.users.weight.zero_()
            self.items.weight.zero_()
            if init == "small":
                self.items.weight[:, :factors].uniform_(-0.05, 0.05)
            else:
                one = torch.empty(factors).uniform_(0, (9 / factors) ** 0.5)
                for table in (self.users, self.items):
                    table.weight[:, :factors] = one
                    table.weight[:, factors] = float(biases)
        self.fill()

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        x, y = self.users(users), self.items(items)
        product = (x[..., :-1] * y[..., :-1]).sum(-1)
        return self._stars(product, x[..., -1], y[..., -1])

    def scores(self, users: Tensor) -> Tensor:
        x, y = self.users(users), self.items.weight
        return self._stars(x[:, :-1] @ y[:, :-1].T, x[:, -1:], y[:, -1])

    def _stars(self, product: Tensor, user: Tensor, item: Tensor) -> Tensor:
        total = product + self.constant
        if self.biases:
            total = total + user + item
        if "mean" in self.shared:
            total = total + self.shared["mean"]
        return total if self.unit == 1 else total * self.unit

    @property
    def _form(self) -> tuple[Any, ...]:
        """What the kernels know of a row."""
        learned = "mean" in self.shared
        return (*self.known, self.factors, self.biases, learned, np.float32(self.constant))

    def descend_(
        self,
        rows: Tensor,
        indptr: np.ndarray,
        pairs: np.ndarray,
        ratings: np.ndarray,
        lr: float,
        decay: float,
        item_rate: float = 1.0,
    ) -> np.ndarray:
        """Steps of stochastic gradient descent in the given order, for many nodes, in place.

        A step on a rating r, at the error e = r / unit - prediction, is that of Hegedus, Danner and
        Jelasity (2019) as Dhasade et al. (2022) take it: first the item's
        ``y <- (1 - lr decay) y + lr e x, b <- b + lr e``, then the user's ``x <- (1 - lr decay) x +
        lr e y`` with the new y, ``a <- a + lr e``; a mean that is learned likewise. Biases and mean
        do not decay.

        Args:
            rows: float32 [n, D] on the CPU, each in the layout of this network.
            indptr: int64 [n+1]; the k-th row's steps are ``indptr[k]:indptr[k+1]``.
            pairs: int64 [steps, 2], (user, item).
            ratings: float32 [steps], stars.
            lr: learning rate, of numbers in units.
            decay: L2 penalty of the factors.
            item_rate: the learning rate of items' numbers is so many times ``lr``.

        Returns:
            float64 [n]: the mean squared error in stars before each step; NaN without steps.

        Raises:
            ValueError: rows are not float32 on the CPU, or a pair is none of this network.
        """
        if rows.dtype != torch.float32 or rows.device.type != "cpu":
            raise ValueError(f"rows of {rows.dtype} on {rows.device}; float32 on the CPU are due")
        self._check(pairs)
        scaled = (ratings / np.float32(self.unit)).astype(np.float32)
        squares = np.full(len(rows), np.nan)
        rates = [
            np.float32(number)
            for rate in (lr, lr * item_rate)
            for number in (rate, 1 - rate * decay)
        ]
        arguments = (rows.detach().numpy(), indptr, pairs, scaled, *rates, *self._form, squares)
        over_rows(descend, len(rows), *arguments)
        return squares * self.unit**2

    def rated(self, rows: Tensor, indptr: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """What each row predicts for its own pairs, float32 [pairs] in stars.

        Args: as for :meth:`descend_`.
        """
        self._check(pairs)
        values = np.empty(len(pairs), dtype=np.float32)
        over_rows(rate, len(rows), rows.detach().numpy(), indptr, pairs, *self._form, values)
        return values * np.float32(self.unit)

    def _check(self, pairs: np.ndarray) -> None:
        if len(pairs) and ((pairs < 0) | (pairs >= self.known)).any():
            raise ValueError(f"a pair that is none of {self.known[0]} users, {self.known[1]} items")


class Embedded(RatingNetwork):
    """A multilayer perceptron over a user's and an item's embedding, end to end."""

    def __init__(
        self, users: int, items: int, embedding: int, hidden: Sequence[int], start: float = 0.0
    ) -> None:
        super().__init__(users, items, embedding)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1)
        layers: dict[str, nn.Module] = {}
        width = 2 * embedding
        for k, wider in enumerate(hidden, start=1):
            layers[f"fc{k}"], layers[f"relu{k}"] = nn.Linear(width, wider), nn.ReLU()
            width = wider
        last = nn.Linear(width, 1)
        nn.init.constant_(last.bias, start)
        self.layers = chain(**layers, out=last)
        self.fill()

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        x = torch.cat([self.users(users), self.items(items)], dim=-1)
        rating: Tensor = self.layers(x)
        return rating.squeeze(-1)
