"""Every algorithm on another device than the CPU.

Where there is a CUDA device it is used. On any machine a stand-in is: tensors that say that they
lie on the device "meta", hold their numbers on the CPU, and refuse, as CUDA does, to be joined to
tensors that lie elsewhere, to be turned into arrays of numpy, or to index what is elsewhere.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import hansa
from hansa.base.component import catalogue

AWAY = torch.device("meta")
MOVES = {"aten::_to_copy", "aten::copy_", "aten::_local_scalar_dense"}
INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class Away(torch.Tensor):
    """A tensor that says that it lies on another device; its numbers are those of ``inner``."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Away:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=AWAY,
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @property
    def data(self) -> torch.Tensor:
        return Away(self.inner)

    @data.setter
    def data(self, other: Away) -> None:
        self.inner = other.inner

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class OtherDevice(TorchDispatchMode):
    """Makes the tensors that are asked for on the other device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Work out an operation on the CPU; its result is where a device would have put it."""
    name, wanted = func._schema.name, kwargs.get("device")
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    away = [x for x in tensors if isinstance(x, Away)]
    here = [x for x in tensors if not isinstance(x, Away) and x.dim() > 0]
    if name in INDEXED and isinstance(args[0], Away):  # the index may be on the CPU
        values = tree_leaves(args[2:])
        here = [x for x in here if any(x is value for value in values)]
    if away and here and name not in MOVES:
        raise RuntimeError(f"{name}: tensors on the CPU and on another device meet")
    result_away = bool(away)
    if wanted is not None:
        result_away = torch.device(wanted) == AWAY
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif name == "aten::copy_":
        result_away = isinstance(args[0], Away)
    plain = tree_map(lambda x: x.inner if isinstance(x, Away) else x, (args, kwargs))
    found = func(*plain[0], **plain[1])
    if isinstance(found, torch.Tensor) and found.layout is torch.sparse_csr:
        found = found.to_dense()  # such a matrix cannot be dressed up
    same = {id(x.inner): x for x in away}  # what works in place returns its argument

    def dressed(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or isinstance(x, Away) or not result_away:
            return x
        return same.get(id(x)) if id(x) in same else Away(x)

    return tree_map(dressed, found)


def settings(name: str) -> dict[str, Any]:
    """A small run of an algorithm, with what it cannot do without."""
    run: dict[str, Any] = {
        "nodes": 6,
        "rounds": 2,
        "algorithm": {"name": name},
        "data": {"name": "digits", "train_samples": 120, "test_samples": 40},
        "model": {"name": "mlp", "hidden": [8]},
        "train": {"local_steps": 2, "batch_size": 8, "optimizer": {"name": "sgd", "momentum": 0.9}},
    }
    if name == "cpfl":
        run["algorithm"] |= {"cohorts": 2}
        run["data"] |= {"public": 0.2}
        run["evaluate"] = {"local_validation": 0.2}
    if name == "fedbuff":
        run["algorithm"] |= {"concurrency": 4, "buffer": 2}
    if name in ("adpsgd", "fedbuff"):
        run["clock"] = "modelled"
    if name in ("skiptrain_constrained", "greedy"):
        run["algorithm"] |= {"budget": 2}
    return run


def final(run: Any) -> dict[str, float]:
    """What was measured in the end, but for times."""
    return {k: v for k, v in run.summary["final"].items() if "time" not in k}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a run take the other device."""
    for module, name, instead in [
        ("hansa.experiment.prepare", "check_device", lambda name: None),
        ("hansa.experiment.environment", "_device", lambda name: name),
    ]:
        monkeypatch.setattr(importlib.import_module(module), name, instead)
    adam = torch.optim.Adam  # its fused kernel is CUDA's and the CPU's
    plain = lambda *a, fused=None, **k: adam(*a, **k)  # noqa: E731
    monkeypatch.setattr(torch.optim, "Adam", plain)


LEARNING = sorted(
    name
    for name, part in catalogue("algorithm").items()
    # Recommenders take their steps on the CPU; other tests' own algorithms are theirs.
    if part.__module__.startswith(("hansa.learn.", "hansa.forget."))
)


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_an_algorithm_makes_its_tensors_where_its_models_are(
    name: str, elsewhere: None, tmp_path: Path
) -> None:
    wanted = final(hansa.run(settings(name), tmp_path / "cpu", report=False))
    with OtherDevice():
        run = hansa.run(settings(name) | {"device": "meta"}, tmp_path / "away", report=False)
    assert final(run) == pytest.approx(wanted, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("aggregator", "attack"),
    [
        ("median", "sign_flip"),
        ("geometric_median", "mimic"),
        ("krum", "inner_product"),
        ("multi_krum", "gaussian"),
        ({"name": "nnm", "then": "geometric_median"}, "a_little_is_enough"),
        ("bucketing", "a_little_is_enough"),
        ("centered_clipping", "sign_flip"),
    ],
    ids=lambda x: x if isinstance(x, str) else x["name"],
)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_an_aggregator_works_where_the_models_are(
    aggregator: Any, attack: str, elsewhere: None, tmp_path: Path
) -> None:
    attacked = settings("dpsgd") | {"topology": "complete", "rounds": 1}
    attacked["algorithm"] |= {"aggregator": aggregator}
    attacked["attack"] = {"name": attack, "nodes": [1]}
    wanted = final(hansa.run(attacked, tmp_path / "cpu", report=False))
    with OtherDevice():
        run = hansa.run(attacked | {"device": "meta"}, tmp_path / "away", report=False)
    assert final(run) == pytest.approx(wanted, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["fedadam", "scaffold", "jwins", "choco", "quickdrop"])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_run_elsewhere_can_be_resumed(name: str, elsewhere: None, tmp_path: Path) -> None:
    given = settings(name) | {"device": "meta", "checkpoint": {"every": 1}}
    with OtherDevice():
        whole = hansa.run(given, tmp_path / "whole", report=False)
        hansa.run(given | {"rounds": 1}, tmp_path / "parts", report=False)
        resumed = hansa.resume(tmp_path / "parts", {"rounds": 2}, report=False)
    assert final(resumed) == pytest.approx(final(whole), rel=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", LEARNING)
def test_an_algorithm_runs_on_cuda(name: str, tmp_path: Path) -> None:
    wanted = final(hansa.run(settings(name), tmp_path / "cpu", report=False))
    run = hansa.run(settings(name) | {"device": "cuda"}, tmp_path / "cuda", report=False)
    assert final(run) == pytest.approx(wanted, rel=1e-2, abs=1e-2)
