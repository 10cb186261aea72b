"""An algorithm that goes around another hands on all that the other declares and does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.engine import Algorithm
from hansa.engine.wrapper import Wrapper

OWN = {"usual", "lacks"}
"""What is asked of the part itself, by its name."""
calls: list[tuple[str, Any]] = []


def declared() -> Iterator[str]:
    """The public members that an algorithm has beside a component's."""
    for name in vars(Algorithm):
        inherited = any(name in vars(base) for base in Algorithm.__mro__[1:])
        if not (name.startswith(("_", "model_")) or name in ("kind", "name") or inherited):
            yield name


class Told(Algorithm):
    """Answers every question with what no algorithm answers by default."""

    uses_topology = False
    uses_public = True
    own_pace = True

    def __getattribute__(self, name: str) -> Any:
        if name in OWN or name not in set(declared()):
            return super().__getattribute__(name)
        if isinstance(getattr(Algorithm, name), property | bool | str | frozenset):
            return f"the inner {name}"

        def call(*given: Any) -> Any:
            calls.append((name, given))
            return f"the inner {name} of {given}"

        def script(*given: Any) -> Any:
            came = yield f"the inner {name} of {given}"
            return f"{name} ended with {came}"

        return script if name in ("round", "finish", "measured") else call


@pytest.mark.parametrize("name", sorted(set(declared()) - OWN))
def test_a_declaration_is_not_forgotten(name: str) -> None:
    assert name in vars(Wrapper), f"Wrapper has to hand on {name}"
    inner = Told()
    outer = Wrapper.model_construct(algorithm=inner)
    ours, theirs = getattr(outer, name), getattr(inner, name)
    if not callable(theirs):
        assert ours == theirs
        return
    given = tuple(f"argument {k}" for k in range(ours.__func__.__code__.co_argcount - 1))
    calls.clear()
    ours = ours(*given)
    if not hasattr(ours, "send"):
        assert calls == [(name, given)]
        return
    theirs = theirs(*given)
    assert next(ours) == next(theirs)
    ends = []
    for script in (ours, theirs):
        with pytest.raises(StopIteration) as end:
            script.send("an inbox")
        ends.append(end.value.value)
    assert ends[0] == ends[1] == f"{name} ended with an inbox"


def test_every_algorithm_with_an_inner_one_is_a_wrapper() -> None:
    for name, kind in catalogue("algorithm").items():
        inner = [f for f, info in kind.model_fields.items() if info.annotation is Algorithm]
        assert not inner or issubclass(kind, Wrapper), name


@pytest.mark.parametrize(
    ("inner", "rule"),
    [("dpsgd", "metropolis_hastings"), ("el_local", "uniform"), ("choco", None)],
)
def test_weights_are_told_through_two_wrappers(inner: str, rule: str | None) -> None:
    local = {"name": "local_sgd", "algorithm": inner}
    chosen = Algorithm.resolve({"name": "skiptrain", "algorithm": local})
    plain = Algorithm.resolve(inner)
    assert chosen.mixing_rule == plain.mixing_rule
    if rule is not None:
        assert chosen.mixing_rule == rule


def test_a_field_is_named_through_two_wrappers(make_job: Any) -> None:
    local = {"name": "local_sgd", "algorithm": {"name": "el_local", "fanout": 99}}
    with pytest.raises(ConfigError) as caught:
        make_job({"algorithm": {"name": "skiptrain", "algorithm": local}})
    assert caught.value.field == "algorithm.algorithm.algorithm.fanout"


def test_nothing_is_left_of_models_that_are_replaced(make_job: Any) -> None:
    """Local SGD keeps the models of the last exchange beside those of now."""
    job = make_job({"algorithm": {"name": "local_sgd", "period": 2}})
    block = job.block(np.arange(job.nodes))
    job.algorithm.adopt(block, torch.zeros_like(block.rows))
    rows = [v for v in block.state.values() if v.shape == block.rows.shape]
    assert rows
    assert all(not row.any() for row in [block.rows, *rows])
