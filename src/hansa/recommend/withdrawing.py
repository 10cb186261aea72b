"""Tombstones: ratings that their owner takes back, dropped and refused by whoever hears of it.

A tombstone names a user, or one of a user's ratings. Its owner, the node that was dealt the user,
drops the rating itself; from then on tombstones go with the ratings in every round, so that who was
away or comes back as it was hears of them too. A node that knows one holds no copy of the rating
and takes none in. It says so: a tombstone carries a bit a node, set by that node, and bits of two
copies are joined, so that they only become more. At the owner they are how far the withdrawal is
known to have spread.

Who may withdraw what follows from the run's settings, which all members agree on; that a set bit is
true is for attested channels to say, on which every member runs this code. Models that were trained
on a rating are not made to forget it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from hansa.base.errors import ConfigError, WireError
from hansa.base.lazy import torch
from hansa.codec import Table, Tables
from hansa.codec.table_messages import offsets
from hansa.engine import Block, Script, Send
from hansa.engine.settings import Settings
from hansa.recommend.outgoing import Receivers

CONFIRMED, OWN = "rex.confirmed", "rex.withdraws"
"""In a block's state: whether a node knows of a withdrawal that a node has confirmed it, bool
[n, withdrawals, nodes]; whether it is the one to begin it, bool [n, withdrawals]."""
_ALL = -1


class Withdrawal(Settings):
    """A user takes a rating back, or all of them."""

    user: int = Field(ge=0, description="whose, by number")
    item: int | None = Field(None, ge=0, description="of which item, by number; none = all")
    at: int = Field(ge=0, description="the round in which it begins")

    def meets(self, pairs: np.ndarray) -> np.ndarray:
        """Which of these ratings [m, 2] it is about, bool [m]."""
        met = pairs[:, 0] == self.user
        return met if self.item is None else met & (pairs[:, 1] == self.item)


Withdrawals = Sequence[Withdrawal]


def start(block: Block, withdrawals: Withdrawals) -> None:
    """Note whose withdrawals these are; before anything has come.

    Raises:
        ConfigError: there is no such user or item.
    """
    users, items = block.trainer.dataset.spec.vocabulary
    for one in withdrawals:
        if one.user >= users or (one.item or 0) >= items:
            fix = f"users below {users} and items below {items}"
            raise ConfigError("withdraw", one.model_dump(), "names what is not there", fix)
    if not withdrawals:
        return
    assert block.store is not None
    n, many = len(block), len(withdrawals)
    own = torch.zeros(n, many, dtype=torch.bool)
    for k, node in enumerate(block.ids.tolist()):
        pairs = block.store.table(node)["inputs"]
        for w, one in enumerate(withdrawals):
            own[k, w] = bool((pairs[:, 0] == one.user).any())
    block.state[OWN] = own
    block.state[CONFIRMED] = torch.zeros(n, many, block.nodes, dtype=torch.bool)


def begin(block: Block, t: int, withdrawals: Withdrawals) -> None:
    """Owners withdraw what is due in round t."""
    if not withdrawals:
        return
    confirmed, own = block.state[CONFIRMED].numpy(), block.state[OWN].numpy()
    due = np.array([t >= one.at for one in withdrawals])
    confirmed[np.arange(len(block)), :, block.ids] |= own & due
    _drop(block, withdrawals)


def spread(block: Block, t: int, to: Receivers, withdrawals: Withdrawals) -> Script:
    """Pass tombstones on, drop what they name, and report.

    ``withdrawn_known``: at owners, the share of nodes that are known to have confirmed;
    ``withdrawn_held``: copies that a node has of what was withdrawn.
    """
    due = [w for w, one in enumerate(withdrawals) if t >= one.at]
    if not due:
        return
    confirmed = block.state[CONFIRMED].numpy()
    known = confirmed.any(2)
    counts = np.count_nonzero(known, axis=1)
    which = np.nonzero(known)[1]
    tables = Tables(
        offsets(counts),
        {
            "user": np.array([withdrawals[w].user for w in which.tolist()], dtype=np.int64),
            "item": np.array([_item(withdrawals[w]) for w in which.tolist()], dtype=np.int64),
            "confirmed": np.packbits(confirmed[known], axis=1),
        },
    )
    if to.one:
        at = to.chosen[to.speaks]
        tables = to.on_edges(tables.select(np.flatnonzero(to.speaks)), at)
    inbox = yield Send(tables, to.graph, Table(), kind="tombstones", each=to.one)
    number = {(one.user, _item(one)): w for w, one in enumerate(withdrawals)}
    for k in range(len(block)):
        messages = inbox.messages(k)[1]
        assert isinstance(messages, Tables)  # an exchange has one form
        user, item, bits = messages.columns.values()
        said = _unpacked(bits, len(user), block.nodes)
        for j, name in enumerate(zip(user.tolist(), item.tolist(), strict=True)):
            if number.get(name) not in due:
                raise WireError(f"a tombstone of {name} that nobody is to withdraw by round {t}")
            confirmed[k, number[name]] |= said[j]
            confirmed[k, number[name], block.ids[k]] = True
    _drop(block, withdrawals)
    _report(block, withdrawals, due)


def allowed(block: Block, withdrawals: Withdrawals, k: int, pairs: np.ndarray) -> np.ndarray:
    """Which ratings [m, 2] the block's k-th node does not know to be withdrawn, bool [m]."""
    fine = np.ones(len(pairs), dtype=bool)
    for w, one in enumerate(withdrawals):
        if block.state[CONFIRMED][k, w, int(block.ids[k])]:
            fine &= ~one.meets(pairs)
    return fine


def _drop(block: Block, withdrawals: Withdrawals) -> None:
    assert block.store is not None
    for k, node in enumerate(block.ids.tolist()):
        if block.state[CONFIRMED][k].any():
            pairs = block.store.table(node)["inputs"]
            block.store.drop(node, ~allowed(block, withdrawals, k, pairs))


def _report(block: Block, withdrawals: Withdrawals, due: list[int]) -> None:
    assert block.store is not None
    confirmed, own = block.state[CONFIRMED].numpy(), block.state[OWN].numpy()
    known = np.full(len(block), np.nan)
    held = np.zeros(len(block))
    for k, node in enumerate(block.ids.tolist()):
        mine = [w for w in due if own[k, w]]
        if mine:
            known[k] = confirmed[k, mine].mean()
        pairs = block.store.table(node)["inputs"]
        held[k] = sum(np.count_nonzero(withdrawals[w].meets(pairs)) for w in due)
    block.report["withdrawn_known"], block.report["withdrawn_held"] = known, held


def _item(one: Withdrawal) -> int:
    return _ALL if one.item is None else one.item


def _unpacked(bits: np.ndarray, count: int, nodes: int) -> np.ndarray:
    """bool [count, nodes] of bytes.

    Raises:
        WireError: they are not of so many nodes.
    """
    width = -(-nodes // 8)
    if bits.dtype != np.uint8 or bits.size != count * width:
        raise WireError(f"tombstones whose bits are not those of {nodes} nodes")
    return np.unpackbits(bits.reshape(count, width), axis=1, count=nodes).astype(bool)
