"""What is said of clients who attacked a run, before a request is served."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.engine.exchange.attackers import Attackers
from hansa.ensemble.attacks import SignFlip
from hansa.forget import Request
from hansa.forget.attackers_asked import of_attackers
from hansa.forget.method import Forgetting

ATTACKERS = Attackers(SignFlip(nodes=(0, 3)), np.array([0, 3]))


@pytest.mark.parametrize(
    ("method", "clients", "said"),
    [
        ("quickdrop", (0,), ["client 0 attacked this run by sign_flip: examples", "client 3"]),
        ("quickdrop", (0, 3), ["clients 0, 3 attacked"]),
        ("quickdrop", (1,), ["clients 0, 3 attacked this run by sign_flip, stay, and do here"]),
        ("retrain", (0, 3), []),
        ("federaser", (0, 3), ["clients 0, 3 attacked"]),
        ("retrain", (0,), ["client 3 attacked this run by sign_flip, stay, and attack again"]),
    ],
)
def test_forgetting_says_what_it_cannot_do(method, clients, said) -> None:
    lines = of_attackers(ATTACKERS, Request.of((), clients, ()), Forgetting.resolve(method))
    assert len(lines) == len(said)
    for line, start in zip(lines, said, strict=True):
        assert line.startswith(start)
    asked = set(clients) & {0, 3}
    assert ("--method retrain" in " ".join(lines)) == (bool(asked) and method != "retrain")


def test_of_an_honest_run_nothing_is_said() -> None:
    assert of_attackers(None, Request.of((), (0,), ()), Forgetting.resolve("quickdrop")) == []
