"""What agents tell each other of what they heard: rows, counts, or only sums; counted as encoded.

**rows**: each row that was asked and its answer, to every other agent. **counts**: for each cell
of the audited attributes (and of the true outcome) how many were asked, answered, and answered
yes. **sums**: the same counts, but nobody learns another's: each agent cuts its counts into
shares that are random but for their sum (modulo 2**32), keeps one, gives one to each other agent,
and all add up what they got (Ben-Or, Goldwasser and Wigderson, 1988, section 2: addition). Any
m - 1 of the messages that an agent sends are uniformly random numbers.

Where agents plan together, rows are disjoint, and counts tell an estimate all that rows do: from
the sums, members that :func:`standing_for` them give the same estimate to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from hansa.audit.population import Asked, Population, Strata

_RING = "<u4"
ASKED, ANSWERED, YES = 0, 1, 2


def varints(values: np.ndarray) -> bytes:
    """Whole numbers from 0 on, seven bits a byte, small ones in one byte (LEB128)."""
    blob = bytearray()
    for value in np.asarray(values, dtype=np.int64).tolist():
        while value > 127:
            blob.append(value & 127 | 128)
            value >>= 7
        blob.append(value)
    return bytes(blob)


def read_varints(blob: bytes, count: int) -> tuple[np.ndarray, int]:
    """What :func:`varints` wrote: int64 [count], and how many bytes they took."""
    values, place = np.zeros(count, dtype=np.int64), 0
    for k in range(count):
        shift = 0
        while True:
            byte = blob[place]
            place += 1
            values[k] |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
    return values, place


def encode_rows(asked: Asked) -> bytes:
    """Rows, ascending, as differences; then two bits an answer."""
    order = np.argsort(asked.rows, kind="stable")
    rows, answers = asked.rows[order], asked.answers[order]
    steps = np.diff(rows, prepend=0)
    bits = np.stack([answers < 0, answers > 0], axis=1).astype(np.uint8)
    return varints(np.array([len(rows)])) + varints(steps) + np.packbits(bits).tobytes()


def decode_rows(blob: bytes) -> Asked:
    """What :func:`encode_rows` wrote, in ascending order."""
    (count,), start = read_varints(blob, 1)
    steps, length = read_varints(blob[start:], int(count))
    packed = np.frombuffer(blob[start + length :], dtype=np.uint8)
    bits = np.unpackbits(packed, count=2 * int(count)).reshape(-1, 2)
    answers = np.where(bits[:, 0], -1, bits[:, 1].astype(np.int8)).astype(np.int8)
    return Asked(np.cumsum(steps), answers)


def counted(cells: np.ndarray, count: int, asked: Asked) -> np.ndarray:
    """int64 [3, C]: rows asked, answered and answered yes in each cell.

    Args:
        cells: int64 [N], the cell of each member.
        count: C.
        asked: of one agent.
    """
    groups = [asked.rows, asked.rows[asked.answers >= 0], asked.rows[asked.answers > 0]]
    return np.stack([np.bincount(cells[rows], minlength=count) for rows in groups])


def shares(counts: np.ndarray, agents: int) -> np.ndarray:
    """uint32 [agents, 3, C]: random numbers whose sum modulo 2**32 is ``counts``."""
    size = (agents - 1) * counts.size * np.dtype(_RING).itemsize
    random = np.frombuffer(os.urandom(size), dtype=_RING).reshape(agents - 1, *counts.shape)
    last = counts.astype(_RING) - random.sum(axis=0, dtype=_RING)
    return np.concatenate([random, last[None]])


def summed(counts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The sum of all agents' counts by secret shares, and the bytes that each agent sent.

    Returns:
        int64 [3, C], and int64 [m].
    """
    m = len(counts)
    dealt = np.stack([shares(one, m) for one in counts])  # [from, to, 3, C]
    partial = dealt.sum(axis=0, dtype=_RING)  # what each has got, its own share too
    total = partial.sum(axis=0, dtype=_RING).astype(np.int64)
    to_others = (m - 1) * (dealt[0, 0].nbytes + partial[0].nbytes)
    return total, np.full(m, to_others, dtype=np.int64)


def told(
    sharing: str, cells: np.ndarray, count: int, asked: Sequence[Asked]
) -> tuple[list[np.ndarray], np.ndarray]:
    """What agents know of each other after they told: counts, each agent's or their sum, and bytes.

    Args:
        sharing: rows, counts or sums.
        cells: int64 [N], the cell of each member.
        count: C, how many cells there are.
        asked: of each agent.

    Returns:
        int64 [3, C] of each agent, or of all together where it is sums; bytes sent by each [m].
    """
    counts = [counted(cells, count, one) for one in asked]
    others = len(asked) - 1
    if sharing == "sums":
        total, sent = summed(counts)
        return [total], sent
    texts = [encode_rows(one) for one in asked]
    if sharing == "counts":
        texts = [varints(one.ravel()) for one in counts]
    return counts, np.array([others * len(text) for text in texts], dtype=np.int64)


def standing_for(cells: np.ndarray, counts: np.ndarray) -> Asked:
    """Members of each cell that give counts int64 [3, C]: an estimate asks no more of rows.

    The first that are in the cell stand for those who were asked.
    """
    order = np.argsort(cells, kind="stable")
    sizes = np.bincount(cells, minlength=counts.shape[1])
    rank = np.arange(len(cells)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    of = cells[order]
    asked = rank < counts[ASKED][of]
    answers = np.where(rank < counts[YES][of], 1, np.where(rank < counts[ANSWERED][of], 0, -1))
    return Asked(order[asked].astype(np.int64), answers[asked].astype(np.int8))


def outcome_cells(population: Population, cells: Strata) -> tuple[np.ndarray, int]:
    """Cells of attributes, cut by the true outcome where it is known: int64 [N], and how many."""
    if population.labels is None:
        return cells.ids, len(cells)
    return cells.ids * 2 + (population.labels > 0), 2 * len(cells)
