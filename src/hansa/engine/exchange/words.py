"""What nodes tell some of those who listen to them: invitations, leave, readiness.

A :class:`~hansa.engine.exchange.exchange.Send` goes along all edges of its graph. A :class:`Tell`
goes along some of them, and only the tellers know along which; who is told nothing has the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hansa.base.errors import WireError
from hansa.base.many import add_, tally
from hansa.codec import Table, Tables
from hansa.engine.exchange.asked import Asked, Exchange, Post, check_kind, check_missing
from hansa.engine.exchange.backhaul import book_backhaul
from hansa.engine.exchange.exchange import rows_of
from hansa.engine.exchange.losses import record, refuse
from hansa.engine.exchange.wire import (
    HEADER_BYTES,
    Buffer,
    Key,
    When,
    frame,
    pack_control,
    unpack_control,
)
from hansa.topology import Graph
from hansa.topology.graph import row_of_each

if TYPE_CHECKING:
    from hansa.engine.block import Block

Unheard = Literal["wait", "skip"]
"""What becomes of a word that a fault takes: it is told again, or its receiver has the default."""
_HEADS = ("senders", "receivers", "at", "sizes")


@dataclass(frozen=True)
class Told:
    """What the nodes of a block were told: an entry for each edge of the graph into them, or, if
    the :class:`Tell` is ``brief``, for each of those by which something came.

    Attributes:
        receivers: int64 [edges], positions in the block, ascending.
        senders: int64 [edges], node ids, ascending for each receiver.
        came: bool [edges], whether there was a word.
        at: float64 [edges], the teller's modelled time, s; NaN where there was no word.
        values: [edges] by name; the default where there was no word.
        lost: bool [words], which words of this block's own nodes a fault took.
    """

    receivers: np.ndarray
    senders: np.ndarray
    came: np.ndarray
    at: np.ndarray
    values: dict[str, np.ndarray]
    lost: np.ndarray

    def that_came(self) -> Told:
        """The entries by which there was a word."""
        return Told(
            self.receivers[self.came],
            self.senders[self.came],
            self.came[self.came],
            self.at[self.came],
            {name: column[self.came] for name, column in self.values.items()},
            self.lost,
        )


@dataclass(frozen=True)
class Tell(Asked[Told]):
    """Words from nodes to some of those who listen to them, each a row of named numbers.

    A word counts as the table message that it is, header included, in messages and in bytes, at
    both ends. It takes no modelled time and no energy of its own: it goes with what follows (an
    invitation with the model) or with what went before. Between two workers one frame carries all
    words of an exchange, also where there are none, so that both know; that is not counted.

    A word that a fault of the run file takes is told again at once where it is waited for (counted
    as sent again), or its receiver has the default.

    Attributes:
        graph: who listens to whom, over all nodes of the run: for any two workers the edges between
            their nodes are the same at both.
        senders, receivers: int64 [words], node ids: who of the block tells whom; no pair twice.
        values: [words] by name; may be empty, where it matters only who says something.
        default: what those have who are told nothing; its types are those of the values.
        kind: what it is, at most 16 ASCII characters.
        turn: see :class:`~hansa.engine.exchange.exchange.Send`.
        on_missing: what becomes of a word that does not come (see above).
        brief: who is told nothing needs no entry: the words alone are handed over.
    """

    graph: Graph
    senders: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    receivers: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    default: Mapping[str, float] = field(default_factory=dict)
    kind: str = "tell"
    turn: int | None = None
    on_missing: Unheard = "wait"
    brief: bool = False

    def __post_init__(self) -> None:
        check_kind(self.kind, self.turn)
        check_missing(self.on_missing, Unheard)
        if self.values.keys() - self.default.keys():
            raise ValueError(f"{sorted(self.values)} is told where {sorted(self.default)} is heard")

    def perform(self, exchange: Exchange, block: Block, round: int, phase: int) -> Told:
        """Tell, count, and hear.

        Raises:
            ValueError: a word goes along no edge of the graph, or two go along one.
            WireError: another block's frame is malformed.
            RunError: a word is lost and the run file says that this ends the run.
        """
        # Between blocks, and where a run is done again, it matters who might have said something.
        brief = self.brief and exchange.post is None and exchange.recorded is None
        nobody = np.zeros(0, dtype=np.int64)
        told = self._silence(nobody, nobody) if brief else self._edges(block)
        words, policy = self._words(block), exchange.policy(self.on_missing)
        _count(block, "sent", words.senders, words.sizes)
        heads = words.sizes + HEADER_BYTES
        book_backhaul(block, block.positions(words.senders), words.receivers, heads)
        when = self.when(round, phase)
        lost = exchange.lost(block, when, self.kind, words.senders, words.receivers)
        if lost.any():
            gone = words.take(lost)
            if policy == "abort":
                refuse(when, self.kind, gone.senders, gone.receivers)
            record(exchange, block, when, self.kind, policy, "lost", gone.senders, gone.receivers)
            if policy == "wait":
                _count(block, "resent", gone.senders, gone.sizes)
            else:
                told.lost[:] = lost
                words = words.take(~lost)
        if brief:
            order = np.lexsort((words.senders, words.receivers))
            words = words.take(order)
            told = replace(
                self._silence(block.positions(words.receivers), words.senders), lost=told.lost
            )
            self._hear(block, told, words)
            return told
        here = exchange.here(words.receivers)
        heard, speaks = [words.take(here)], np.ones(len(told.senders), dtype=bool)
        if exchange.post is not None:
            whole = exchange.patient(policy)
            more, speaks = self._between(exchange.post, words.take(~here), when, whole, told)
            heard += more
        edges = told.senders, block.ids[told.receivers]
        silent = ~speaks | exchange.unheard(when, self.kind, *edges)
        dumb = edges[0][silent], edges[1][silent]
        record(exchange, block, when, self.kind, policy, "silent", *dumb)
        for some in heard:
            unheard = exchange.unheard(when, self.kind, some.senders, some.receivers)
            self._hear(block, told, some.take(~unheard))
        return told.that_came() if self.brief else told

    def _edges(self, block: Block) -> Told:
        """An entry for each edge into the block, by which nothing has come yet."""
        indptr, senders = rows_of(self.graph, block)
        return self._silence(row_of_each(indptr), senders)

    def _silence(self, receivers: np.ndarray, senders: np.ndarray) -> Told:
        count = len(senders)
        return Told(
            receivers=receivers,
            senders=senders,
            came=np.zeros(count, dtype=bool),
            at=np.full(count, np.nan),
            values={name: np.full(count, value) for name, value in self.default.items()},
            lost=np.zeros(len(self.senders), dtype=bool),
        )

    def _words(self, block: Block) -> _Words:
        """What this block's nodes say, checked."""
        nodes, at = self.graph.nodes, block.positions(self.senders)
        pairs = self.receivers * nodes + self.senders
        once = len(np.unique(pairs)) == len(pairs)
        if not once or not self.graph.has(self.senders, self.receivers).all():
            raise ValueError(f"a word of kind {self.kind!r} goes along no edge, or two along one")
        if len(at) != len(self.senders):
            raise ValueError(f"a word of kind {self.kind!r} is of a node of another block")
        columns = {
            name: np.asarray(self.values.get(name, ()), dtype=np.asarray(value).dtype)
            for name, value in self.default.items()
        }
        if any(len(column) != len(pairs) for column in columns.values()):
            raise ValueError(f"not every word of kind {self.kind!r} has every value")
        sizes = Table().size(Tables.rows(**columns)) if columns else np.zeros_like(pairs)
        time = block.state["modelled_time"].numpy()[at]
        return _Words(self.senders, self.receivers, time, sizes, columns)

    def _between(
        self, post: Post, away: _Words, when: When, whole: bool, told: Told
    ) -> tuple[list[_Words], np.ndarray]:
        """Send the words that leave the block, a frame a worker.

        A frame bears the names of the first two nodes between which an edge goes there.

        Args:
            whole: a worker's silence is an error; else nobody there has said anything.

        Returns:
            (what came from others, of which edges of ``told`` the teller's worker spoke).
        """
        owner = np.asarray(post.owner)
        for (source, target), key in self._ways(owner).items():
            if source == post.index:
                payload = away.take(owner[away.receivers] == target).packed()
                post.tell(frame(when, *key, self.kind, payload), payload)
        keys = self.due(owner, post.index)
        got = post.gather(when, set(keys), whole)
        dumb = [owner[key[0]] for key in keys if key not in got]
        speaks = ~np.isin(owner[told.senders], dumb)
        return [self._of(owner, key, got[key][1]) for key in keys if key in got], speaks

    def _of(self, owner: np.ndarray, key: Key, payload: Buffer) -> _Words:
        """The words in a frame, which may be of nodes of the worker alone that has sent it.

        Raises:
            WireError: they are others', or the frame is malformed.
        """
        words = _Words.unpacked(payload, self.default)
        for nodes, name in ((words.senders, key[0]), (words.receivers, key[1])):
            there = (nodes >= 0) & (nodes < len(owner))
            if not there.all() or (owner[nodes] != owner[name]).any():
                raise WireError(f"the worker of node {key[0]} speaks for nodes that are not its")
        return words

    def due(self, owner: np.ndarray, index: int) -> list[Key]:
        """The frames that a worker gets from others.

        Args:
            owner: int64 [nodes], the worker of each node.
        """
        return [key for (_, target), key in self._ways(owner).items() if target == index]

    def _ways(self, owner: np.ndarray) -> dict[tuple[int, int], Key]:
        """(worker, other worker) between whose nodes there are edges -> the frame's two names."""
        senders, receivers = self.graph.indices, self.graph.receivers
        many = int(owner.max()) + 1
        ways, first = np.unique(owner[senders] * many + owner[receivers], return_index=True)
        pairs = [divmod(way, many) for way in ways.tolist()]
        names = zip(senders[first].tolist(), receivers[first].tolist(), strict=True)
        return {pair: key for pair, key in zip(pairs, names, strict=True) if pair[0] != pair[1]}

    def _hear(self, block: Block, told: Told, words: _Words) -> None:
        """Put what came where it belongs, and count it."""
        nodes = self.graph.nodes
        edges = block.ids[told.receivers] * nodes + told.senders
        pairs = words.receivers * nodes + words.senders
        place = np.searchsorted(edges, pairs)
        if len(pairs) and (
            place.max() >= len(edges) or (edges[place] != pairs).any() or told.came[place].any()
        ):
            raise WireError(f"a word of kind {self.kind!r} along no edge, or a second one")
        told.came[place], told.at[place] = True, words.at
        for name, column in words.columns.items():
            told.values[name][place] = column
        _count(block, "received", words.receivers, words.sizes)


@dataclass(frozen=True)
class _Words:
    """Some words: arrays [words].

    Attributes:
        senders, receivers: int64, node ids.
        at: float64, the tellers' modelled time, s.
        sizes: int64, bytes of each as a table message.
        columns: what each says, by name.
    """

    senders: np.ndarray
    receivers: np.ndarray
    at: np.ndarray
    sizes: np.ndarray
    columns: dict[str, np.ndarray]

    def take(self, which: np.ndarray) -> _Words:
        """Some of them: a mask."""
        return _Words(
            self.senders[which],
            self.receivers[which],
            self.at[which],
            self.sizes[which],
            {name: column[which] for name, column in self.columns.items()},
        )

    def packed(self) -> bytes:
        """A frame's payload."""
        body = b"".join(Table().encode(Tables.rows(**self.columns))) if self.columns else b""
        heads = {name: getattr(self, name) for name in _HEADS}
        return pack_control("tell", **heads, body=body)

    @classmethod
    def unpacked(cls, payload: Buffer, default: Mapping[str, float]) -> _Words:
        """From such a payload.

        Raises:
            WireError: it is none, or has other columns than these.
        """
        said = unpack_control(payload)
        heads: list[Any] = [said.get(name) for name in _HEADS]
        body: Any = said.get("body")
        if any(not isinstance(head, np.ndarray) for head in heads) or (
            [(head.dtype.kind, head.shape) for head in heads]
            != [(kind, (heads[0].size,)) for kind in "iifi"]
        ):
            raise WireError("a frame of words that is not one")
        senders, receivers, at, sizes = heads
        room = len(body) if isinstance(body, bytes) else -1
        if (sizes < 0).any() or (sizes > room).any() or sizes.sum() != room:
            raise WireError("a frame whose words are not as long as it says")
        if not np.isfinite(at).all():
            raise WireError("a word that was said at no time")
        columns: dict[str, np.ndarray] = {}
        if default:
            like = Tables.rows(**{k: np.full(0, v) for k, v in default.items()})
            ends = np.cumsum(sizes)
            pieces: list[bytes | memoryview] = [
                body[end - size : end] for size, end in zip(sizes, ends, strict=True)
            ]
            parts = [Table().unpack(pieces, len(default))] if pieces else []
            tables = Tables.joined([like, *parts])
            if (tables.counts != 1).any() or len(tables) != len(sizes):
                raise WireError("a word that is not one row")
            columns = dict(tables.columns)
        return cls(senders, receivers, at, sizes, columns)


def _count(block: Block, way: str, ids: np.ndarray, sizes: np.ndarray) -> None:
    """Count words that nodes of the block have ``sent``, ``resent`` or ``received``."""
    at, n = block.positions(ids), len(block)
    add_(block.state[f"messages_{way}"], tally(at, n))
    add_(block.state[f"bytes_{way}"], tally(at, n, sizes + HEADER_BYTES))
