"""Nobody touches another's examples: every algorithm, in parties of one node that hold their own.

Each party is built from the plan and its own holding, in files; all else is spoiled. What looks at
others' examples fails, or comes to other models than the same run in one block.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from hansa.base.component import catalogue, register
from hansa.base.errors import OwnCodeError
from hansa.engine import Block, Job
from hansa.engine.holding import NotHeld
from hansa.experiment import RunFile, prepare
from hansa.learn.gossip.dpsgd import DPSGD

from ..engine.apart import in_order


def _golden() -> ModuleType:
    script = Path(__file__).parents[2] / "benchmarks" / "golden.py"
    spec = importlib.util.spec_from_file_location("golden_settings", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOLDEN = _golden()
ROOMS = ("hansa.learn.", "hansa.forget.")  # recommenders have examples of their own: ratings
OWN = [n for n, m in catalogue("algorithm").items() if m.__module__.startswith(ROOMS)]
APART = sorted(set(OWN) - set(GOLDEN.ALONE))
MORE: dict[str, dict[str, Any]] = {
    "stops": GOLDEN.VARIANTS["stops"],
    "budget": GOLDEN.VARIANTS["budget"],
    "per_client": {
        "algorithm": "fedavg",
        "evaluate": {"every": 1, "local_validation": 0.2, "per_client": True},
    },
    "epochs": {"algorithm": "dpsgd", "train": {"local_epochs": 1, "draw": "fresh"}},
    "skewed": {
        "algorithm": "fednova",
        "data": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.3}},
        "train": {"drop_last": False},
    },
    "median": GOLDEN.VARIANTS["median"],
}


def made(name: str, more: dict[str, Any] | None = None) -> Job:
    settings = GOLDEN.settings_of(name, {"nodes": 5, "rounds": 3, **(more or {})})
    settings["topology"] = {"name": "ring"}
    job = prepare(RunFile.parse(settings))
    job.strategy, job.threads = "looped", 1
    return job


def assert_alike(job: Callable[[], Job], host: Any, poisoned: Any, workers: int | None) -> None:
    here = in_order([host(job())[0]])
    apart = poisoned(job(), workers)
    assert torch.equal(apart.rows, here.rows)
    assert torch.equal(apart.models, here.models)
    assert apart.state.keys() == here.state.keys()
    for what, value in here.state.items():
        assert torch.equal(apart.state[what], value), what
    assert apart.shelves.keys() == here.shelves.keys()
    for what, rows in here.shelves.items():
        assert rows.keys() == apart.shelves[what].keys(), what
        assert all(torch.equal(apart.shelves[what][node], row) for node, row in rows.items()), what


@pytest.mark.parametrize("name", APART)
def test_an_algorithm_needs_its_own_examples_only(name: str, host: Any, poisoned: Any) -> None:
    assert_alike(lambda: made(name), host, poisoned, None)


@pytest.mark.parametrize("name", MORE)
def test_so_do_its_settings(name: str, host: Any, poisoned: Any) -> None:
    change = dict(MORE[name])
    algorithm = change["algorithm"]
    method = algorithm if isinstance(algorithm, str) else algorithm["name"]
    assert_alike(lambda: made(method, change), host, poisoned, 3)


@register("looks_at_all")
class LooksAtAll(DPSGD):
    """Moves every model by the mean class of all training examples that it can get at."""

    def local(self, block: Block, t: int) -> None:
        super().local(block, t)
        targets = block.trainer.dataset.train.targets  # type: ignore[attr-defined]
        block.rows += targets.double().mean().float()


@register("looks_at_another")
class LooksAtAnother(DPSGD):
    """Trains on what the next client has, where it can."""

    offset: ClassVar[int] = 1

    def local(self, block: Block, t: int) -> None:
        dataset = block.trainer.dataset
        index = torch.from_numpy(block.parts[0])[:4] + 250 * self.offset * (1 + block.ids[0])
        x, _ = dataset.gather(dataset.train, index)
        block.rows += x.mean()


@pytest.mark.parametrize(
    ("method", "error", "says"),
    [
        (LooksAtAll, AssertionError, "torch.equal"),
        (LooksAtAnother, OwnCodeError, "index out of range"),
    ],
)
def test_one_that_looks_at_others_is_caught(
    method: type[DPSGD], error: type[Exception], says: str, host: Any, poisoned: Any
) -> None:
    register(method.name)(method)  # tests forget what others registered
    with pytest.raises(error, match=says):
        assert_alike(lambda: made(method.name), host, poisoned, None)


def test_asking_for_anothers_part_is_an_error_that_says_so(poisoned: Any) -> None:
    job = made("dpsgd").party(np.array([1, 3]))
    with pytest.raises(NotHeld, match=r"client 2 are not held here \(here: 1, 3\)"):
        _ = job.parts[2]
    with pytest.raises(NotHeld, match="client 0"):
        list(job.parts)
    with pytest.raises(NotHeld, match="client 0"):
        job.block(np.array([0]))
    assert len(job.parts[-2]) == len(job.parts[3])
    with pytest.raises(IndexError, match="no client 5"):
        _ = job.parts[5]
