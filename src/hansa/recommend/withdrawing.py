"""Tombstones: ratings that their owner takes back, dropped and refused by whoever hears of it.

A tombstone names a user, or one of a user's ratings, and the round in which its owner, the node
that was dealt the user, began it, and bears that node's signature (``engine/node_keys.py``). Every
node knows from the joining whose key is whose and who has which users, and takes note only of what
the owner has signed: a tombstone that somebody made up for another is left aside and counted. The
owner drops the rating itself; from then on tombstones go with the ratings in every round, so that
who was away or comes back as it was hears of them too. A node that knows one holds no copy of the
rating and takes none in. It says so: a tombstone carries a bit a node, set by that node, and bits
of two copies are joined, so that they only become more. At the owner they are how far the
withdrawal is known to have spread.

That a set bit is true is for attested channels to say, on which every member runs this code. Models
that were trained on a rating are not made to forget it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from hansa.base.errors import ConfigError, WireError
from hansa.base.lazy import torch
from hansa.codec import Table, Tables
from hansa.codec.table_messages import offsets
from hansa.data import Dataset
from hansa.engine import Block, Inbox, Script, Send, node_keys
from hansa.engine.settings import Settings
from hansa.recommend.outgoing import Receivers

CONFIRMED, TOMBSTONES, PROOFS = "rex.confirmed", "rex.tombstones", "rex.proofs"
"""In a block's state, of each node's tombstones in the order in which it heard of them: which nodes
have confirmed them as far as it knows, bool [n, room, nodes]; user, item (-1: all) and round, int64
[n, room, 3], a user of -1 where there is none; signatures, uint8 [n, room, 64]."""
_ALL = -1
_LABEL = b"hansa withdrawal\0"


class Withdrawal(Settings):
    """A user takes a rating back, or all of them."""

    user: int | str = Field(description="whose, by number, or by name")
    item: int | str | None = Field(
        None, description="of which item, by number, or by name; none = all"
    )
    at: int = Field(ge=0, description="the round in which it begins")

    def numbered(self, dataset: Dataset) -> tuple[int, int, int]:
        """(user, item or -1, round) by number.

        Raises:
            ConfigError: there is no such user or item.
        """
        users, items = dataset.spec.vocabulary
        user = _number(self.user, dataset.group_names)
        item = _ALL if self.item is None else _number(self.item, dataset.item_names)
        if (
            not 0 <= user < users
            or not _ALL <= item < items
            or (self.item is not None and item < 0)
        ):
            fix = f"users below {users} and items below {items}, or their names"
            raise ConfigError("withdraw", self.model_dump(), "names what is not there", fix)
        return user, item, self.at

    def meets(self, pairs: np.ndarray, dataset: Dataset) -> np.ndarray:
        """Which of these ratings [m, 2] it is about, bool [m]."""
        user, item, _ = self.numbered(dataset)
        return _meets(user, item, pairs)


@dataclass(frozen=True)
class Withdrawals:
    """Those that a run's nodes begin, and for how many a node has room.

    Attributes:
        begun: what is taken back; owners act on theirs.
        room: tombstones that a node keeps; more are refused.
        always: tombstones go in every round, as others may begin what is not among ``begun``.
    """

    begun: Sequence[Withdrawal] = ()
    room: int = 0
    always: bool = False

    def goes(self, t: int) -> bool:
        """Whether tombstones go with the ratings of round t, which all sites have to see alike."""
        return self.always or any(t >= one.at for one in self.begun)

    def start(self, block: Block) -> None:
        """Make room; before anything has come.

        Raises:
            ConfigError: there is no such user or item.
        """
        self._named(block)
        if not self.room:
            return
        n, room = len(block), self.room
        block.state[CONFIRMED] = torch.zeros(n, room, block.nodes, dtype=torch.bool)
        block.state[TOMBSTONES] = torch.full((n, room, 3), -1, dtype=torch.int64)
        block.state[PROOFS] = torch.zeros(n, room, node_keys.SIGNED, dtype=torch.uint8)

    def begin(self, block: Block, t: int) -> None:
        """Owners withdraw what is due in round t."""
        if not self.room:
            return
        for k, name in self._to_begin(block):
            if t >= name[2]:
                proof = node_keys.sign(block.streams, int(block.ids[k]), _text(block, name))
                _note(block, k, name, np.frombuffer(proof, dtype=np.uint8))
        self._drop(block)

    def _named(self, block: Block) -> list[tuple[int, int, int]]:
        """``begun`` by number."""
        return [one.numbered(block.trainer.dataset) for one in self.begun]

    def _to_begin(self, block: Block) -> list[tuple[int, np.ndarray]]:
        """What nodes of the block have to begin yet: (position in the block, name)."""
        place = {node: k for k, node in enumerate(block.ids.tolist())}
        owners = [
            (node_keys.owner(block.roster.owned, n[0]), np.array(n)) for n in self._named(block)
        ]
        mine = [(place[owner], name) for owner, name in owners if owner in place]
        return [(k, name) for k, name in mine if _slot(block, k, name) is None]

    def spread(self, block: Block, t: int, to: Receivers) -> Script:
        """Pass tombstones on, drop what they name, and report.

        ``withdrawn_known``: at owners, the share of nodes that are known to have confirmed;
        ``withdrawn_held``: copies that a node has of what this run was told to withdraw by now;
        ``withdrawals_refused``: tombstones that came without their owner's signature, or for which
        a node has no room beside what it has to begin itself.

        Raises:
            WireError: what came are no tombstones.
        """
        if not self.goes(t):
            return
        stones, proofs = block.state[TOMBSTONES].numpy(), block.state[PROOFS].numpy()
        confirmed = block.state[CONFIRMED].numpy()
        known = stones[:, :, 0] >= 0
        user, item, at = stones[known].T
        tables = Tables(
            offsets(np.count_nonzero(known, axis=1)),
            {
                "user": user,
                "item": item,
                "at": at,
                "proof": proofs[known],
                "confirmed": np.packbits(confirmed[known], axis=1),
            },
        )
        if to.one:
            chosen = to.chosen[to.speaks]
            tables = to.on_edges(tables.select(np.flatnonzero(to.speaks)), chosen)
        inbox = yield Send(tables, to.graph, Table(), kind="tombstones", each=to.one)
        _check(block, inbox)
        width = _width(block)
        refused, kept = np.zeros(len(block)), np.zeros(len(block), dtype=np.int64)
        for k, _ in self._to_begin(block):
            kept[k] += 1
        for k in range(len(block)):
            messages = inbox.messages(k)[1]
            assert isinstance(messages, Tables)  # an exchange has one form
            *named, proof, bits = messages.columns.values()
            names = np.stack(named, axis=1).reshape(-1, 3)
            said = np.unpackbits(bits.reshape(len(names), width), axis=1, count=block.nodes) > 0
            for name, signed, by in zip(names, proof, said, strict=True):
                slot = _slot(block, k, name)
                heard = slot is not None and bool((proofs[k, slot] == signed).all())
                if heard or _genuine(block, name, signed):
                    slot = _note(block, k, name, signed, kept[k]) if slot is None else slot
                else:
                    slot = None
                if slot is None:
                    refused[k] += 1
                else:
                    confirmed[k, slot] |= by
                    confirmed[k, slot, block.ids[k]] = True
        self._drop(block)
        self._report(block, t)
        block.report["withdrawals_refused"] = refused

    def allowed(self, block: Block, k: int, pairs: np.ndarray) -> np.ndarray:
        """Which ratings [m, 2] the block's k-th node does not know to be withdrawn, bool [m]."""
        fine = np.ones(len(pairs), dtype=bool)
        if not self.room:
            return fine
        for user, item, _ in block.state[TOMBSTONES][k].tolist():
            if user >= 0:
                fine &= ~_meets(user, item, pairs)
        return fine

    def _drop(self, block: Block) -> None:
        assert block.store is not None
        for k, node in enumerate(block.ids.tolist()):
            if (block.state[TOMBSTONES][k, :, 0] >= 0).any():
                pairs = block.store.table(node)["inputs"]
                block.store.drop(node, ~self.allowed(block, k, pairs))

    def _report(self, block: Block, t: int) -> None:
        assert block.store is not None
        owned = block.roster.owned
        stones, confirmed = block.state[TOMBSTONES].numpy(), block.state[CONFIRMED].numpy()
        known, held = np.full(len(block), np.nan), np.zeros(len(block))
        due = [(user, item) for user, item, at in self._named(block) if t >= at]
        for k, node in enumerate(block.ids.tolist()):
            mine = [
                s
                for s, user in enumerate(stones[k, :, 0].tolist())
                if user >= 0 and node_keys.owner(owned, user) == node
            ]
            if mine:
                known[k] = confirmed[k, mine].mean()
            pairs = block.store.table(node)["inputs"]
            held[k] = sum(np.count_nonzero(_meets(*which, pairs)) for which in due)
        block.report["withdrawn_known"], block.report["withdrawn_held"] = known, held


def _text(block: Block, name: np.ndarray) -> bytes:
    """What an owner signs: the run, the user, the item and the round."""
    seed = block.streams.seed
    return _LABEL + struct.pack("<qqqqq", seed, block.nodes, *name.tolist())


def _genuine(block: Block, name: np.ndarray, proof: np.ndarray) -> bool:
    """Whether who has the user has signed this."""
    roster = block.roster
    owner = node_keys.owner(roster.owned, int(name[0]))
    if owner < 0 or name[1] < _ALL or name[2] < 0:
        return False
    return node_keys.signed_by(roster.keys[owner], proof.tobytes(), _text(block, name))


def _slot(block: Block, k: int, name: np.ndarray) -> int | None:
    """Where the k-th node has a tombstone of this name; None: nowhere."""
    same = (block.state[TOMBSTONES][k].numpy() == name).all(1)
    return int(same.argmax()) if same.any() else None


def _note(block: Block, k: int, name: np.ndarray, proof: np.ndarray, kept: int = 0) -> int | None:
    """Note a tombstone at the k-th node, which confirms it; None: there is no room.

    Args:
        kept: places that stay free.
    """
    stones = block.state[TOMBSTONES].numpy()
    free = np.flatnonzero(stones[k, :, 0] < 0)
    if len(free) <= kept:
        return None
    slot = int(free[0])
    stones[k, slot] = name
    block.state[PROOFS].numpy()[k, slot] = proof
    block.state[CONFIRMED].numpy()[k, slot, block.ids[k]] = True
    return slot


def _number(name: int | str, names: Sequence[str]) -> int:
    """A number as it is, or that of a name; below -1 where there is none such."""
    if isinstance(name, int):
        return name
    return names.index(name) if name in names else -2


def _meets(user: int, item: int, pairs: np.ndarray) -> np.ndarray:
    """Which ratings [m, 2] are of a user, and of an item unless that is -1, bool [m]."""
    met = pairs[:, 0] == user
    return met if item == _ALL else met & (pairs[:, 1] == item)


def _width(block: Block) -> int:
    """Bytes that hold a bit a node."""
    return -(-block.nodes // 8)


def _check(block: Block, inbox: Inbox) -> None:
    """Refuse what are no tombstones of this many nodes."""
    form = (*[("int64", 1)] * 3, ("uint8", node_keys.SIGNED), ("uint8", _width(block)))
    for messages in (inbox.sent, inbox.received):
        assert isinstance(messages, Tables)  # an exchange has one form
        if messages.form != form:
            raise WireError(f"tombstones of columns {messages.form} where {form} were due")
