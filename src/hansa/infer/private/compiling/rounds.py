"""Blocks in rounds: each as early as what it reads can be uploaded."""

from __future__ import annotations

from collections.abc import Mapping

from hansa.infer.private.program import LOGITS, Activation, Block, Round


def in_rounds(
    blocks: Mapping[str, Block],
    activations: Mapping[str, Activation],
    input_name: str,
    logits: str,
) -> tuple[Round, ...]:
    """The fewest rounds that compute the logits; a value is uploaded when it is first read.

    Args:
        blocks: by name, each behind what it reads.
        activations: by the name of the value that they make.
    """
    makers = {name: one.block for name, one in activations.items()}
    level: dict[str, int] = {}
    for name, block in blocks.items():
        before = [makers.get(term.value) for term in block.terms]
        level[name] = max((level[one] + 1 for one in before if one is not None), default=0)
    level[logits] = max(level.values())
    rounds, uploaded = [], set()
    for depth in range(level[logits] + 1):
        inside = [block for name, block in blocks.items() if level[name] == depth]
        reads = dict.fromkeys(term.value for block in inside for term in block.terms)
        uploads = tuple(name for name in reads if name not in uploaded)
        uploaded |= set(uploads)
        names = {block.name for block in inside}
        makes = [one for one in activations.values() if one.block in names]
        if logits in names:
            makes.append(Activation(logits, (), LOGITS))
        rounds.append(Round(uploads, tuple(inside), tuple(makes)))
    assert rounds[0].uploads == (input_name,)
    return tuple(rounds)
