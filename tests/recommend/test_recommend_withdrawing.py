"""Ratings that are taken back stay away, and it is known how far that has spread."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.recommend.withdrawing import CONFIRMED, Withdrawal

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
        held = mine.meets(block.store.table(node)["inputs"])
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
    with pytest.raises(ConfigError, match="not there"):
        rated_job(withdraw=[{"user": USERS, "at": 0}]).block(np.arange(6))
