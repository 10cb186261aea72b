"""Stages between two merges, where one merge of a masked algorithm saves more than a block.

Versions that are stored as they are (groups of two, which masks would not make smaller) join a
masked group one after another, and each saves less than one block. What was stored as one stays so:
sizes are nested as before. One step still saves up to two blocks: where two versions and a third
become a masked group in a block whose base another masked group has paid for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hansa.combine.merge.byte_ledger import Accounting, BlockSize
from hansa.combine.merge.dendrogram import Dendrogram, Group, Partition


def finer_stages(
    stages: Sequence[Partition], counting: Accounting, size: BlockSize
) -> tuple[tuple[Partition, ...], ...]:
    """For each step from one stage to the next, the stages that it goes through, to its end."""
    return tuple(
        (*_between(before, after, counting, size), after)
        for before, after in itertools.pairwise(stages)
    )


def _between(
    before: Partition, after: Partition, counting: Accounting, size: BlockSize
) -> tuple[Partition, ...]:
    parts = [group for group in before if group not in after]
    union = [group for group in after if group not in before]
    if not counting.masked or len(parts) != 2 or len(union) != 1:
        return ()
    loose = [group for group in parts if not counting.merges(group, size)]
    if not loose or not counting.merges(union[0], size):
        return ()
    joining = min(loose, key=len)
    host = next(group for group in parts if group is not joining)
    others = [group for group in before if group not in parts]
    found: list[Partition] = []
    for count in range(1, len(joining)):
        grown = tuple(sorted(host + joining[:count]))
        if counting.merges(grown, size):
            alone = [(version,) for version in joining[count:]]
            found.append(tuple(sorted([*others, grown, *alone])))
    return tuple(found)


def measured_groups(tree: Dendrogram, counting: Accounting, size: BlockSize) -> tuple[Group, ...]:
    """Every group of two or more in a dendrogram or in a stage between its merges, each once."""
    groups = dict.fromkeys(tree.groups[tree.leaves :])
    for step in finer_stages(tree.stages, counting, size):
        for partition in step:
            groups |= dict.fromkeys(group for group in partition if len(group) > 1)
    return tuple(groups)
