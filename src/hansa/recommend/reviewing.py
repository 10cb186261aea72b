"""Measuring what a byte is worth: samples of a neighbour's rows, and trials with what came.

A whole model would cost more than it can tell. So a node asks one neighbour for a few rows alone:
those of the items that it holds ratings of back, of its own users, and what all ratings share. Four
copies of its model then do the same local work for some passes, and are held against the ratings
that were held back: as it is; with the ratings that came in this round among those trained on; with
the sampled item rows taken in; with all the sampled rows taken in. Rows of other items than those
do not change that error, so that the sample tells what all rows would; their bytes are those of the
node's own message.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import Lazy, torch
from hansa.codec import Codec, Dense, Packets, Raw, SparseRows
from hansa.codec.messages import whole_rows
from hansa.codec.table_messages import offsets
from hansa.engine import Block, Inbox, Script, Send
from hansa.engine.own_examples import INPUTS, TARGETS
from hansa.recommend import row_merging, stepping, weighing
from hansa.recommend.outgoing import Receivers
from hansa.recommend.weighing import DATA, ITEMS, MODEL, PROBE, Weighing

if TYPE_CHECKING:
    from torch import Tensor

networks = Lazy("hansa.models.rating_networks")  # they need torch
_USERS = 16
_MOST = 1e30


def sampled(block: Block, t: int, to: Receivers, how: Weighing, codec: Codec) -> Script:
    """Every node asks one neighbour for some rows; the script returns the inbox of those.

    Raises:
        WireError: what a node asks for are no rows.
    """
    asks = [b""] * to.edges
    links = to.links(block)
    for k, e in enumerate(_asked(block, t, to).tolist()):
        if e >= 0:
            asks[e] = _wish(block, k, t, how).astype("<u4").tobytes()
    inbox = yield Send(Packets(tuple(asks)), to.graph, Raw(), kind="wishes", each=True)
    held, place = block.state[row_merging.HELD].numpy(), {link: e for e, link in enumerate(links)}
    answers = [np.zeros(0, dtype=np.int64)] * to.edges
    for k in range(len(block)):
        senders, messages = inbox.messages(k)
        assert isinstance(messages, Packets)  # an exchange has one form
        for asker, packet in zip(senders.tolist(), messages.packets, strict=True):
            if packet:
                answers[place[k, asker]] = _granted(block, held[k], packet, how)
    rows = _on_links(block, np.array([k for k, _ in links], dtype=np.int64), answers)
    inbox = yield Send(rows, to.graph, codec, kind="samples", each=True)
    return inbox


@dataclass(frozen=True)
class Trial:
    """What is held against what is held back.

    Attributes:
        before: int64 [n], ratings that each node had before those of this round came.
        came: float64 [n], bytes of these.
        rows: the inbox of sampled rows.
    """

    before: np.ndarray
    came: np.ndarray
    rows: Inbox

    def weigh(
        self,
        block: Block,
        t: int,
        to: Receivers,
        how: Weighing,
        steps: int,
        rate: float | np.ndarray,
        codec: Codec,
    ) -> Script:
        """Measure what came, hear what neighbours measured, and choose what is sent from now on.

        Args:
            steps: ratings to a pass, at most.
            rate: items' learning rate beside users'.
            codec: how rows become bytes.
        """
        network = stepping.network_of(block)
        users, items = network.known
        probes = [_probe(block, node) for node in block.ids.tolist()]
        counts = np.array([len(stars) for _, stars in probes])
        merged = block.rows.clone()
        self.rows.halve_held_(merged, block.state[row_merging.HELD].numpy().copy())
        partly = block.rows.clone()
        ours = slice(users * network.group, (users + items) * network.group)
        partly[:, ours] = merged[:, ours]
        starts = {None: block.rows, DATA: block.rows, ITEMS: partly, MODEL: merged}
        errors: dict[int | None, np.ndarray] = {}
        every, old = _drawn(block, t, how.passes, steps, self.before)
        for kind, rows in starts.items():
            after = _trained(block, rows.clone(), t, every if kind == DATA else old, rate)
            errors[kind] = _squared(block, after, probes)
        less = [errors[None] - errors[kind] for kind in (DATA, ITEMS, MODEL)]
        fell, doubt = (
            np.stack(each, axis=1) for each in zip(*(_mean(x, counts) for x in less), strict=True)
        )
        fell[self.came == 0, DATA] = np.nan
        fell[[not _some(self.rows, k) for k in range(len(block))], ITEMS:] = np.nan
        fell[~(np.hypot(fell, doubt) < _MOST)] = np.nan  # of models that diverged
        everyone = np.ones(len(block), dtype=bool)
        whole = row_merging.held_rows(block, everyone)
        some = row_merging.held_rows(block, everyone, items=True)
        nbytes = np.stack([self.came, codec.size(some), codec.size(whole)], axis=1)
        weights = counts[:, None] * ~np.isnan(fell)
        seen = np.stack([weights, fell, doubt, nbytes], axis=2)
        inbox = yield Send(
            torch.from_numpy(np.nan_to_num(seen).astype(np.float32)).reshape(len(block), -1),
            to.graph,
            Dense(),
            kind="worths",
        )
        weighing.learn(block, *_pooled(inbox, seen))


def _some(inbox: Inbox, k: int) -> bool:
    """Whether a node was sent any row."""
    messages = inbox.messages(k, shared=True)[1]
    assert isinstance(messages, SparseRows)  # an exchange has one form
    return len(messages.positions) > 0


def _asked(block: Block, t: int, to: Receivers) -> np.ndarray:
    """On which of the links from the block each node asks, int64 [n]; -1: on none."""
    if to.one:
        return to.chosen
    ends = np.cumsum(to.degrees)
    asked = np.full(len(block), -1)
    for k, (node, degree) in enumerate(zip(block.ids.tolist(), to.degrees.tolist(), strict=True)):
        if degree:
            random = block.streams.own.numpy("rex wish", node, t)
            asked[k] = ends[k] - degree + random.integers(degree)
    return asked


def _wish(block: Block, k: int, t: int, how: Weighing) -> np.ndarray:
    """The groups that a node asks for: of items and users whose ratings it holds back."""
    node, known = int(block.ids[k]), stepping.network_of(block).known
    pairs = _probe(block, node)[0]
    random = block.streams.own.numpy("rex wishes", node, t)
    some = [
        random.permutation(np.unique(pairs[:, column]))[:most] + first
        for column, most, first in ((0, _USERS, 0), (1, how.sample, known[0]))
    ]
    return np.sort(np.concatenate(some))


def _granted(block: Block, held: np.ndarray, packet: bytes, how: Weighing) -> np.ndarray:
    """Which groups a neighbour is sent: of those that it asks for, and all that are shared."""
    first_shared = sum(stepping.network_of(block).known)
    if len(packet) % 4 or len(packet) > 4 * (_USERS + how.sample):
        raise WireError(f"a wish of {len(packet)} bytes, which are no rows")
    asked = np.frombuffer(packet, dtype="<u4").astype(np.int64)
    if (np.diff(asked) <= 0).any() or (asked >= first_shared).any():
        raise WireError("a wish for rows that there are not, or in disorder")
    shared = np.arange(first_shared, len(held))
    return np.concatenate([asked[held[asked]], shared])


def _on_links(block: Block, senders: np.ndarray, groups: Sequence[np.ndarray]) -> SparseRows:
    """A message of these groups of a sender's row on each link; most are empty.

    Args:
        senders: int64 [links], positions in the block.
    """
    group, counts = stepping.network_of(block).group, [len(each) for each in groups]
    flat = np.concatenate([np.zeros(0, dtype=np.int64), *groups])
    owners = np.repeat(senders, counts)
    n, size = block.rows.shape
    rows = block.rows.reshape(n, size // group, group)
    values = rows[torch.from_numpy(owners), torch.from_numpy(flat)].reshape(-1).cpu()
    return SparseRows(offsets(np.array(counts, dtype=np.int64)), flat, values, size, group=group)


def _probe(block: Block, node: int) -> tuple[np.ndarray, np.ndarray]:
    """(pairs int64 [m, 2], stars float32 [m]) that a node holds back."""
    assert block.store is not None
    table = block.store.table(node, np.flatnonzero(block.store.noted(node, PROBE)))
    return table[INPUTS], table[TARGETS]


def _drawn(
    block: Block, t: int, passes: int, steps: int, before: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What each node trains on in the trial, positions in its training examples: (of all that is
    not held back, of what of it was there before). Both are in the same order, so that what came
    is all that tells them apart.

    Args:
        before: int64 [n], how many ratings were there.
    """
    assert block.store is not None
    every, old = [], []
    able = block.able(t)
    for k, (node, part) in enumerate(zip(block.ids.tolist(), block.parts, strict=True)):
        random = block.streams.own.numpy("rex trial", node, t)
        free = ~block.store.noted(node, PROBE) & able[k]
        lots = [
            np.flatnonzero(free)[random.permutation(np.count_nonzero(free))] for _ in range(passes)
        ]
        every.append(part[np.concatenate([lot[:steps] for lot in lots])])
        was = [lot[lot < before[k]][:steps] for lot in lots]
        old.append(part[np.concatenate(was)])
    return every, old


def _trained(
    block: Block, rows: Tensor, t: int, chosen: list[np.ndarray], rate: float | np.ndarray
) -> Tensor:
    """Models [n, D] after local work on these ratings; the block stays as it is."""
    state = {name: value.clone() for name, value in block.state.items()}
    crew = replace(block, rows=rows, state=state, kept={}, report={}, log={})
    stepping.train(crew, t, chosen, rate)
    return crew.rows


def _squared(
    block: Block, rows: Tensor, probes: Sequence[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """The squared error of each model on each of its node's pairs, float64 [pairs]."""
    network = stepping.network_of(block)
    counts = np.array([len(stars) for _, stars in probes], dtype=np.int64)
    stars = np.concatenate([each for _, each in probes]).astype(np.float64)
    if isinstance(network, networks.Factors):
        rated = network.rated(rows, offsets(counts), np.concatenate([p for p, _ in probes]))
    else:
        module, each = deepcopy(network).eval(), []
        for row, (pairs, _) in zip(rows, probes, strict=True):
            block.trainer.layout.bind(module, row)
            with torch.no_grad():
                each.append(
                    module(torch.from_numpy(pairs).to(row.device)).reshape(-1).cpu().numpy()
                )
        rated = np.concatenate(each)
    return (rated.astype(np.float64) - stars) ** 2


def _mean(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(means of each node's values, their standard errors), float64 [n]; NaN below two values.

    Args:
        values: float64 [m], those of the first node before those of the next.
        counts: int64 [n], how many each has.
    """
    owner = np.repeat(np.arange(len(counts)), counts)
    few = counts < 2
    many = np.where(few, np.nan, counts.astype(np.float64))
    means = np.bincount(owner, values, minlength=len(counts)) / many
    off = (values - means[owner]) ** 2
    spread = np.bincount(owner, off, minlength=len(counts)) / (many - 1)
    return means, np.sqrt(spread / many)


def _pooled(inbox: Inbox, own: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(means, their standard errors, bytes), float64 [n, 3] each, of nodes and their neighbours
    together; NaN where none of them measured anything.

    Args:
        own: float64 [n, 3, 4], what each node has measured of each kind: how many ratings tell of
            it, the mean, its standard error, and bytes.
    """
    pooled = np.full((3, *own.shape[:2]), np.nan)
    for k, mine in enumerate(own):
        heard = whole_rows(inbox.messages(k, shared=True)[1]).numpy().astype(np.float64)
        both = np.concatenate([np.nan_to_num(mine)[None], heard.reshape(-1, *mine.shape)])
        if not np.isfinite(both).all() or (both[..., 0] < 0).any():
            raise WireError("what a neighbour says that it has measured is none")
        weights, means, doubts, nbytes = np.moveaxis(both, 2, 0)
        total = weights.sum(0)
        for kind in np.flatnonzero(total > 0).tolist():
            share = weights[:, kind] / total[kind]
            pooled[:, k, kind] = (
                share @ means[:, kind],
                np.sqrt(share**2 @ doubts[:, kind] ** 2),
                share @ nbytes[:, kind],
            )
    return pooled[0], pooled[1], pooled[2]
