"""Ratings that are taken back stay away, and it is known how far that has spread."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, WireError
from hansa.base.streams import Streams
from hansa.codec import Tables
from hansa.engine import node_keys
from hansa.engine.runtimes.host import Host
from hansa.recommend.outgoing import Receivers
from hansa.recommend.withdrawing import (
    CONFIRMED,
    PROOFS,
    TOMBSTONES,
    Withdrawal,
    _genuine,
    _text,
)

from .rated import USERS, rated_job


@given(
    at=st.integers(0, 4),
    item=st.none() | st.integers(0, 29),
    reconcile=st.sampled_from(["none", "remembered", "digest"]),
    dissemination=st.sampled_from(["rmw", "dpsgd"]),
    loss=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 99),
)
@settings(max_examples=8)
def test_who_knows_of_a_withdrawal_has_no_copy_and_gets_none(
    host: Callable[..., Any], at: int, item: int | None, loss: Any, **how: Any
) -> None:
    mine = Withdrawal(user=5, item=item, at=at)
    faults = {"loss": loss} if loss else None
    job = rated_job(rounds=7, ratings=60, withdraw=[mine.model_dump()], faults=faults, **how)
    block, reports = host(job)
    knows = block.state[CONFIRMED][:, 0].numpy()
    for node in range(6):
        held = mine.meets(block.store.table(node)["inputs"], job.dataset)
        assert not held.any() or not knows[node, node]
    # Bits are only set by those whose they are.
    assert (knows <= np.diag(knows)[None]).all()
    assert knows[1, 1]  # the owner
    shares = [r["values"]["withdrawn_known"] for r in reports if r["round"] > at]
    assert np.all(np.diff([s[1] for s in shares]) >= 0)
    assert all(np.isnan(np.delete(s, 1)).all() for s in shares)


@pytest.mark.parametrize("dissemination", ["rmw", "dpsgd"])
def test_a_withdrawal_reaches_all_and_the_owner_hears_of_it(
    dissemination: str, host: Callable[..., Any]
) -> None:
    withdraw = [{"user": 5, "at": 3}, {"user": 0, "item": 2, "at": 6}]
    job = rated_job(
        rounds=20,
        ratings=200,
        steps=0,
        withdraw=withdraw,
        dissemination=dissemination,
        faults={"loss": 0.2},
    )
    block, reports = host(job)
    last = reports[-1]["values"]
    assert last["withdrawn_held"].sum() == 0
    assert last["withdrawn_known"][[0, 1]].tolist() == [1, 1]
    first = next(r for r in reports if "withdrawn_held" in r["values"])
    assert first["values"]["withdrawn_held"].sum() > 0  # there was something to drop
    total = block.store.sizes - block.store.gathered
    assert (block.store.sizes == total.sum()).all()  # and all else came to everybody


def test_who_is_not_there_cannot_withdraw() -> None:
    for nobody in (USERS, -1, "nobody"):
        with pytest.raises(ConfigError, match="not there"):
            rated_job(withdraw=[{"user": nobody, "at": 0}]).block(np.arange(6))


FORGED = {
    "made up": lambda block: (np.array([5, -1, 1]), bytes(64)),
    "signed by who does not have the user": lambda block: (
        np.array([5, -1, 1]),
        node_keys.sign(block.streams, 3, _text(block, np.array([5, -1, 1]))),
    ),
    "signed for another item": lambda block: (
        np.array([5, -1, 1]),
        node_keys.sign(block.streams, 1, _text(block, np.array([5, 2, 1]))),
    ),
    "of nobody": lambda block: (
        np.array([10**6, -1, 1]),
        node_keys.sign(block.streams, 3, _text(block, np.array([10**6, -1, 1]))),
    ),
}


@pytest.mark.parametrize("dissemination", ["rmw", "dpsgd"])
@pytest.mark.parametrize("way", FORGED)
def test_nobody_withdraws_for_another(way: str, dissemination: str) -> None:
    """Node 3 says that user 5, whom node 1 has, takes all ratings back: nobody heeds it."""
    job = rated_job(rounds=5, ratings=200, steps=0, withdrawals=3, dissemination=dissemination)
    block, refused = job.block(np.arange(6)), []
    before = block.store.sizes.sum()
    name, proof = FORGED[way](block)
    block.state[TOMBSTONES][3, 0] = torch.from_numpy(name)
    block.state[PROOFS][3, 0] = torch.frombuffer(bytearray(proof), dtype=torch.uint8)
    block.state[CONFIRMED][3, 0, 3] = True

    def report(values: dict[str, Any]) -> None:
        refused.append(values["values"]["withdrawals_refused"].sum())

    Host(job, block, job.exchange(), report, lambda block, done: None).run()
    others = np.delete(np.arange(6), 3)
    assert (block.state[TOMBSTONES][others, :, 0] == -1).all()
    assert not block.state[CONFIRMED][others].any()
    assert min(refused) > 0
    theirs = [(block.store.table(n)["inputs"][:, 0] == 5).sum() for n in others.tolist()]
    assert theirs[1] > 0
    assert sum(theirs) > theirs[1]  # it went on to others
    assert block.store.sizes.sum() > before


def test_a_genuine_one_is_heeded_from_anybody() -> None:
    """What node 1 has signed reaches all though node 3, not node 1, begins to pass it on."""
    job = rated_job(rounds=20, ratings=200, steps=0, withdrawals=1)
    block = job.block(np.arange(6))
    name = np.array([5, -1, 0])
    proof = node_keys.sign(block.streams, 1, _text(block, name))
    block.state[TOMBSTONES][3, 0] = torch.from_numpy(name)
    block.state[PROOFS][3, 0] = torch.frombuffer(bytearray(proof), dtype=torch.uint8)
    block.state[CONFIRMED][3, 0, 3] = True
    Host(job, block, job.exchange(), lambda values: None, lambda block, done: None).run()
    assert block.state[CONFIRMED][:, 0].all()
    for node in range(6):
        assert not (block.store.table(node)["inputs"][:, 0] == 5).any()


def test_more_than_there_is_room_for_is_left_aside(host: Callable[..., Any]) -> None:
    job = rated_job(rounds=6, withdrawals=1, withdraw=[{"user": 5, "at": 0}])
    block, _ = host(job)
    assert block.state[TOMBSTONES].shape[1] == 1
    assert not _genuine(block, np.array([4, -1, 0]), np.zeros(64, np.uint8))


def test_what_a_node_takes_back_itself_has_room() -> None:
    """Node 3 begins later than node 1, whose tombstones would fill all places."""
    first = [{"user": 4, "at": 0}, {"user": 5, "at": 0}]
    job = rated_job(rounds=6, withdrawals=3, withdraw=[*first, {"user": 13, "at": 4}])
    block = job.block(np.arange(6))
    extra = np.array([6, -1, 0])
    proof = node_keys.sign(block.streams, 1, _text(block, extra))
    block.state[TOMBSTONES][1, 2] = torch.from_numpy(extra)
    block.state[PROOFS][1, 2] = torch.frombuffer(bytearray(proof), dtype=torch.uint8)
    refused = []

    def report(values: dict[str, Any]) -> None:
        refused.append(values["values"]["withdrawals_refused"])

    Host(job, block, job.exchange(), report, lambda block, done: None).run()
    assert not (block.store.table(3)["inputs"][:, 0] == 13).any()
    assert np.array(refused)[:, 3].max() > 0


def test_there_is_room_for_all_that_the_file_takes_back() -> None:
    with pytest.raises(ConfigError, match="no room for the 2"):
        rated_job(withdrawals=1, withdraw=[{"user": 5, "at": 0}, {"user": 4, "at": 0}])


def test_what_is_no_tombstone_is_refused() -> None:
    """Of another form than tombstones have, it ends in one error with a name."""
    job = rated_job(rounds=1, withdrawals=1)
    script = job.algorithm._withdrawals.spread(
        block := job.block(np.arange(6)), 0, Receivers.of(block, 0, one=False)
    )
    sent = next(script).rows
    table = Tables(np.zeros(7, dtype=np.int64), {"user": np.zeros(0)})
    with pytest.raises(WireError, match="tombstones of columns"):
        script.send(SimpleNamespace(sent=sent, received=table))


def test_keys_follow_from_a_holders_secret() -> None:
    """Whoever knows the seed alone cannot sign for a node whose holder has a secret."""
    name = (2, b"text")
    own, known = Streams(1, bytes(range(32))), Streams(1)
    public = node_keys.public(own, np.array([2]))[0]
    assert node_keys.signed_by(public, node_keys.sign(own, *name), name[1])
    assert not node_keys.signed_by(public, node_keys.sign(known, *name), name[1])
    assert not node_keys.signed_by(public, node_keys.sign(own, 3, name[1]), name[1])
    owned = node_keys.owned([np.array([0, 33]), np.array([31, 40])], 41)
    assert [node_keys.owner(owned, u) for u in (0, 31, 33, 40, 1, 64, -1)] == [
        0,
        1,
        0,
        1,
        -1,
        -1,
        -1,
    ]
