"""Moves the messages of asynchronous scripts, counts them, and lets the clock see them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import torch
from hansa.codec import Codec
from hansa.codec.messages import Messages, concatenate, select, width
from hansa.engine.block import Block
from hansa.engine.exchange.attackers import Attackers
from hansa.engine.exchange.exchange import (
    Said,
    Send,
    book_received,
    book_sent,
    nothing,
    sizes_of,
    what_arrives,
)
from hansa.engine.exchange.letter import Letter, pack_aside, unpack_aside
from hansa.engine.exchange.taking import Put, Take, Taken
from hansa.engine.exchange.weather import Weather
from hansa.engine.exchange.wire import HEADER_BYTES, UNASKED, Header, When, checksum, frame
from hansa.engine.network import nobody
from hansa.engine.time.clock import Clock

if TYPE_CHECKING:
    from hansa.engine.exchange.post import SitePost


class Mailing:
    """What carries letters between the nodes of a block, and to those of others.

    Args:
        post: the way to other workers; None: there are none, all nodes are here.
        weather: what links add to the modelled time of letters.

    Attributes:
        live: whether what other workers send decides what comes when.
        place: int64 [nodes], where each node of the run is in the block; -1: in another.
    """

    def __init__(
        self,
        block: Block,
        clock: Clock,
        attackers: Attackers | None,
        post: SitePost | None,
        weather: Weather | None = None,
    ) -> None:
        self.block, self.clock, self.attackers, self.post = block, clock, attackers, post
        self.live, self.weather = post is not None, weather
        self.place = np.full(block.nodes, -1, dtype=np.int64)
        self.place[block.ids] = np.arange(len(block))
        self._spoken: dict[int, tuple[int, int]] = {}

    def send(self, group: list[tuple[Block, Put]], t: int) -> list[list[Letter]]:
        """Send what nodes put in one moment; returns the letters for nodes of this block."""
        sends = [self._forged(group, node, put, t) for node, put in group]
        sizes = [None if send is None else int(sizes_of(send)[0]) for send in sends]
        arrivals = self._clocked(group, sizes)
        return [
            self._deliver(node, put, send, size or 0, due, t)
            for (node, put), send, size, due in zip(group, sends, sizes, arrivals, strict=True)
        ]

    def open(self, node: Block, letters: list[Letter], take: Take) -> Taken:
        """Hand letters over: they are counted, and the node has waited for them.

        Raises:
            WireError: one is malformed.
        """
        full = [letter for letter in letters if letter.content is not None]
        indptr, due = np.array([0, len(full)]), np.array([letter.arrival for letter in full])
        if full:
            heard = np.array([sum(letter.size for letter in full)])
            book_received(node, indptr[1:], heard)
            self.clock.receive(node, heard, indptr, due)
        parts = [_decoded(letter, take) for letter in full] or [torch.zeros(0, 0)]
        came = parts[0] if len(parts) == 1 else concatenate(parts)
        if isinstance(came, torch.Tensor):
            came = came.to(node.rows.device)
        return Taken(
            ids=node.ids,
            indptr=indptr,
            senders=np.array([letter.sender for letter in full], dtype=np.int64),
            slots=np.arange(len(full)),
            sent=came[:0] if isinstance(came, torch.Tensor) else nothing(came),
            received=came,
            arrivals=due,
            letters=tuple(letters),
        )

    def _forged(self, group: list[tuple[Block, Put]], node: Block, put: Put, t: int) -> Said | None:
        """What leaves in the place of what a node puts; None for a word."""
        if put.rows is None:
            return None
        if self.attackers is None:
            return cast(Said, put)
        send = Send(put.rows, nobody(0), put.codec, put.kind, beside=put.beside)
        sender = int(node.ids[0])
        last, turn = self._spoken.get(sender, (t, 0))
        turn = turn if last == t else 0
        self._spoken[sender] = t, turn + 1
        told = self._told(group)
        return self.attackers.forged(node, send, t, turn, told)

    def _told(self, group: list[tuple[Block, Put]]) -> dict[str, np.ndarray] | None:
        """What attackers that speak in one moment know of each other."""
        assert self.attackers is not None
        parts = []
        for node, put in group:
            if put.rows is not None:
                send = Send(put.rows, nobody(0), put.codec, put.kind, beside=put.beside)
                share = self.attackers.share(node, send)
                if share is None:
                    return None
                parts.append(share.values)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _clocked(self, group: list[tuple[Block, Put]], sizes: list[int | None]) -> list[np.ndarray]:
        """When each message is at each receiver's door, [k] of each; they are counted.

        Args:
            sizes: bytes of each, header included; None: a word.
        """
        spoken: list[tuple[Block, np.ndarray, np.ndarray]] = []
        for (node, put), size in zip(group, sizes, strict=True):
            if size is not None:
                each = np.full(len(put.to), size)
                book_sent(node, np.array([len(each)]), np.array([len(each) * size]))
                spoken.append((node, put.to, each))
        if getattr(self.clock, "contention", "none") == "none":
            due = [
                self.clock.transfer(node, np.zeros(len(to), dtype=np.int64), to, each)
                for node, to, each in spoken
            ]
        else:  # these meet on their links, so that the clock has to see all of them
            lengths = np.array([len(to) for _, to, _ in spoken])
            due = []
            if spoken:
                places = [self.place.item(int(node.ids[0])) for node, _, _ in spoken]
                whole = self.clock.transfer(
                    self.block,
                    np.repeat(places, lengths),
                    np.concatenate([to for _, to, _ in spoken]),
                    np.concatenate([each for _, _, each in spoken]),
                )
                due = np.split(whole, np.cumsum(lengths)[:-1])
        if self.weather is not None:
            due = [
                self.weather.arrivals(self.block, np.repeat(node.ids, len(to)), to, each, leaves)
                for (node, to, each), leaves in zip(spoken, due, strict=True)
            ]
        times = iter(due)
        return [
            _now(node, len(put.to)) if size is None else next(times)
            for (node, put), size in zip(group, sizes, strict=True)
        ]

    def _deliver(
        self, node: Block, put: Put, send: Said | None, size: int, due: np.ndarray, t: int
    ) -> list[Letter]:
        sender, sent = node.ids.item(0), node.state["modelled_time"].item()
        elements = 0 if send is None else width(send.rows)
        home = (self.place[put.to] >= 0).tolist()
        content: Messages | None = None
        encode = None
        if send is not None and any(home):
            content = _copied(what_arrives(send))  # the sender goes on
            if not put.at_once:  # it may have to wait, in a checkpoint too
                encode = partial(_encoded, send.codec, _copied(send.rows))
        payload = b"" if send is None or all(home) else bytes(send.codec.encode(send.rows)[0])
        letters: list[Letter] = []
        away: dict[tuple[int, tuple[float, ...]], list[Letter]] = {}
        for e, receiver in enumerate(put.to.tolist()):
            note = () if put.notes is None else tuple(put.notes[e].tolist())
            arrival = due.item(e)
            waits = arrival if put.due is None else put.due
            letter = Letter(
                sender, receiver, put.kind, t, sent, waits, size, elements, content, note, encode
            )
            if home[e]:
                letters.append(letter)
            else:
                assert self.post is not None
                away.setdefault((self.post.owner[receiver], note), []).append(letter)
        for same in away.values():
            self._speak(same, payload, send is None)
        return letters

    def _speak(self, letters: list[Letter], payload: bytes, word: bool) -> None:
        """Send a message to another worker, once for all who hear it there, with what is not
        counted behind its payload."""
        assert self.post is not None
        first = letters[0]
        whole = payload + pack_aside(first.sent, (float(word), *first.note))
        digest = checksum(whole)
        headers = [
            frame(
                When(letter.round, letter.kind, UNASKED),
                letter.sender,
                letter.receiver,
                letter.kind,
                whole,
                elements=letter.elements,
                arrival=letter.arrival,
                digest=digest,
            )
            for letter in letters
        ]
        self.post.send(headers[0], whole, *headers[1:])

    @staticmethod
    def letter(header: Header, payload: bytes) -> Letter:
        """What came from another worker.

        Raises:
            WireError: malformed.
        """
        body, sent, notes = unpack_aside(payload)
        if not notes:
            raise WireError("a message that does not say whether it is a word")
        word, *note = notes
        size = 0 if word else len(body) + HEADER_BYTES
        return Letter(
            header.sender,
            header.receiver,
            header.kind,
            header.round,
            sent,
            header.arrival,
            size,
            header.elements,
            None if word else body,
            tuple(note),
        )


def _copied(message: Messages) -> Messages:
    return message.clone() if isinstance(message, torch.Tensor) else select(message, np.arange(1))


def _encoded(codec: Codec, row: Messages) -> bytes:
    return bytes(codec.encode(row)[0])


def _now(node: Block, k: int) -> np.ndarray:
    return np.full(k, node.state["modelled_time"].item())


def _decoded(letter: Letter, take: Take) -> Messages:
    """One message in the form in which codecs take several.

    Raises:
        WireError: it is not of the form that the codec makes, or of another size than was due.
    """
    content, codec = letter.content, take.codec
    if take.elements not in (None, letter.elements):
        raise WireError(
            f"node {letter.sender} sent {letter.elements} numbers of kind {letter.kind!r} where "
            f"{take.elements} were due"
        )
    if not isinstance(content, bytes):
        assert content is not None  # a word is not decoded
        return codec.labelled(content)
    try:
        message = codec.decode(content, letter.elements)
    except (ValueError, IndexError) as error:
        raise WireError(f"node {letter.sender} sent a malformed {letter.kind}: {error}") from error
    return message.unsqueeze(0) if isinstance(message, torch.Tensor) else message
