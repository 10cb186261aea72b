"""Deals of whole users: all of a user's ratings are with one node."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.data.dealing.partition import Partition, Parts, Pile


@register("users")
class Users(Partition):
    """Every node gets the examples of one user, or of several where there are fewer nodes.

    Users are dealt by their number, whether or not they have training examples, so that who is
    known by a rating of the test alone has a node too.
    """

    by: Literal["blocks", "modulo"] = Field(
        "blocks",
        description="blocks: of adjacent users, whose sizes differ by one at most; modulo: user u "
        "goes to node u mod nodes. With as many nodes as users both give one to each",
    )

    def node_of(self, users: int, nodes: int) -> np.ndarray:
        """int64 [users], the node of each user.

        Raises:
            ConfigError: ``nodes``; there are fewer users.
        """
        if nodes > users:
            problem = f"the data have only {users} users, so some node would have none"
            raise ConfigError("nodes", nodes, problem, f"at most {users}")
        if self.by == "modulo":
            return np.arange(users) % nodes
        sizes = np.full(nodes, users // nodes) + (np.arange(nodes) < users % nodes)
        return np.repeat(np.arange(nodes), sizes)

    def deal(self, pile: Pile, nodes: int, rng: np.random.Generator) -> Parts:
        if pile.groups is None:
            fix = "movielens, ratings or synthetic_ratings, or another partition"
            raise ConfigError("name", "users", "these data have no users", fix)
        holder = self.node_of(pile.owners or int(pile.groups.max()) + 1, nodes)[pile.groups]
        sizes = np.bincount(holder, minlength=nodes)
        if not sizes.all():
            empty = np.flatnonzero(sizes == 0)
            raise ConfigError(
                "nodes",
                nodes,
                f"{len(empty)} nodes, the first of them {empty[0]}, would have no ratings to train "
                "on: none of their users has any",
                "fewer nodes, so that each has several users, or another data.split",
            )
        return np.split(np.argsort(holder, kind="stable"), np.cumsum(sizes)[:-1])
