"""Test ratings go to who gave them: a node holds back those of its own users, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.data import Dataset, Partition, Split, Users


def to_owners(
    dataset: Dataset, parts: Mapping[int, np.ndarray], partition: Partition
) -> tuple[Dataset, dict[int, np.ndarray]]:
    """The data set whose test ratings lie behind the training ratings, none in its public test set.

    Args:
        parts: the training ratings of each node.
        partition: by which they were dealt.

    Returns:
        (the data set, what each node holds back, positions in its ``train``).

    Raises:
        ConfigError: ``data.partition``; a user's ratings are with several nodes, so that nobody can
            say where those of the test should be.
    """
    train, test = dataset.train, dataset.test
    users = dataset.spec.vocabulary[0]
    node = _node_of_users(train.inputs[:, 0].numpy(), parts, users, partition)
    owner = node[test.inputs[:, 0].numpy()]
    order = np.argsort(owner, kind="stable")
    begins, ends = (
        np.searchsorted(owner[order], list(parts), side=side) for side in ("left", "right")
    )
    held = {
        n: len(train) + order[a:b]
        for n, a, b in zip(parts, begins.tolist(), ends.tolist(), strict=True)
    }
    notes = dataset.notes
    if lost := int((owner < 0).sum()):
        text = f"{lost} test ratings are of users that no node has, and nobody is tested on them"
        notes = (*notes, text)
    groups = None
    if train.groups is not None and test.groups is not None:
        groups = np.concatenate([train.groups, test.groups])
    whole = Split(
        torch.cat([train.inputs, test.inputs]), torch.cat([train.targets, test.targets]), groups
    )
    nothing = test.take(np.zeros(0, dtype=np.int64))
    return replace(dataset, train=whole, test=nothing, notes=notes), held


def _node_of_users(
    rated: np.ndarray, parts: Mapping[int, np.ndarray], users: int, partition: Partition
) -> np.ndarray:
    """int64 [users], the node of each; -1 for who is with none."""
    if isinstance(partition, Users) and parts.keys() == {*range(len(parts))}:  # no site alone
        return partition.node_of(users, len(parts))
    node = np.full(users, -1)
    for number, part in parts.items():
        own = np.unique(rated[part])
        if (node[own] >= 0).any():
            user = int(own[node[own] >= 0][0])
            problem = f"the ratings of user {user} are with nodes {node[user]} and {number}"
            fix = "name: users, which deals users whole"
            raise ConfigError("data.partition", partition.name, problem, fix)
        node[own] = number
    return node
