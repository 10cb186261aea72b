"""Deals that follow the data's own owners, or a function of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.modules import load_object
from hansa.base.paths import ObjectPath
from hansa.data.dealing.partition import Partition, Parts, Pile


@register("natural")
class Natural(Partition):
    """Every node gets the examples of one owner (writer, role, user), or of several.

    With fewer nodes than owners, ``choose`` decides: ``random`` and ``largest`` take as many
    owners as there are nodes and leave the others' examples out; ``first`` takes the owners of
    the lowest numbers, node i being owner i; ``merge`` deals all owners out, so that each node
    has several.
    """

    choose: Literal["random", "largest", "first", "merge"] = Field(
        "random", description="what to do with more owners than nodes"
    )

    def deal(self, pile: Pile, nodes: int, rng: np.random.Generator) -> Parts:
        if pile.groups is None:
            raise ConfigError(
                "name", "natural", "this data set has no natural owners", "use another partition"
            )
        _, codes, sizes = np.unique(pile.groups, return_inverse=True, return_counts=True)
        owners = len(sizes)
        if nodes > owners:
            raise ConfigError(
                "nodes",
                nodes,
                f"the data have only {owners} owners with training examples",
                f"at most {owners} nodes, or another partition",
            )
        order = np.arange(owners) if self.choose == "first" else rng.permutation(owners)
        if self.choose == "largest":  # ties among the sizes are broken at random
            order = order[np.argsort(-sizes[order], kind="stable")]
        node_of = np.full(owners, -1)
        if self.choose == "merge":
            node_of[order] = np.arange(owners) % nodes
        else:
            node_of[order[:nodes]] = np.arange(nodes)
        holder = node_of[codes]
        rows = np.argsort(holder, kind="stable")
        counts = np.bincount(holder + 1, minlength=nodes + 1)
        return np.split(rows[counts[0] :], np.cumsum(counts[1:])[:-1])


@register("function")
class Function(Partition):
    """A function of yours: ``deal(targets, groups, nodes, rng)`` gives each node's indices.

    The result is checked: one list a node, no index twice, none out of range, none empty.
    """

    path: ObjectPath = Field(
        ..., description="where it is: package.module:function or file.py:function"
    )

    def deal(self, pile: Pile, nodes: int, rng: np.random.Generator) -> Parts:
        try:
            function = load_object(self.path)
        except ConfigError as error:
            raise ConfigError("path", self.path, error.problem, error.fix) from None
        if not callable(function):
            raise ConfigError("path", self.path, "is not a function", "name a function")
        parts = function(pile.targets, pile.groups, nodes, rng)
        if not isinstance(parts, Sequence):
            raise ConfigError(
                "path", self.path, f"returned {type(parts).__name__}", "return a list of arrays"
            )
        return parts
