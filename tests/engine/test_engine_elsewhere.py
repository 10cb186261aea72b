"""Every algorithm on a second device: nothing is mixed, nothing is read without being fetched.

There need be no GPU for it (see :mod:`.elsewhere`); where there is one, the tests marked ``gpu``
hold what comes out to what the CPU computes.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.engine import Job
from hansa.engine.runtimes.host import Host
from hansa.experiment import prepare
from hansa.experiment.runfile import RunFile

from . import elsewhere
from .elsewhere import Elsewhere

_PLACE = Path(__file__).parents[2] / "benchmarks/golden.py"
_SPEC = importlib.util.spec_from_file_location("golden_settings", _PLACE)
assert _SPEC is not None
assert _SPEC.loader is not None
golden = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden)

ONE_BY_ONE = ("rex", "rex_async")
"""Take steps on single ratings, on a CPU alone, and say so."""
OURS = [n for n, m in catalogue("algorithm").items() if m.__module__.startswith("hansa.")]
ALL = sorted(set(OURS) - set(ONE_BY_ONE))


def short(name: str) -> dict[str, Any]:
    settings = golden.settings_of(name) | {"rounds": 2, "nodes": 5, "evaluate": {"every": 2}}
    own = golden.NEEDS.get(name, {})
    return settings | {k: own[k] for k in ("evaluate",) if k in own}


def played(job: Job) -> torch.Tensor:
    """Models after all rounds, in one process."""
    block = job.block(np.arange(job.nodes))
    Host(job, block, job.exchange(), lambda _: None, lambda *_: None).run()
    return block.rows


def moved(settings: dict[str, Any], device: str) -> Job:
    job = prepare(RunFile.parse(settings))
    job.device, job.dataset = device, job.dataset.to(torch.device(device))
    return job


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam in one kernel is for real devices alone."""
    plain = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *a, **k: plain(*a, **{**k, "fused": None}))


@pytest.mark.usefixtures("fused")
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # of numbers that are none
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("strategy", ["looped", pytest.param("stacked", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ALL)
def test_nothing_is_mixed_or_read_from_afar(name: str, strategy: Any) -> None:
    job = moved(short(name), "cpu")
    with Elsewhere() as there:
        job.device, job.dataset = elsewhere.NAME, job.dataset.to(torch.device(elsewhere.NAME))
        job.strategy = strategy
        assert played(job).device.type == elsewhere.NAME
    assert there.operations > 100


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_who_needs_the_cpu_says_so(name: str) -> None:
    job = moved(short(name), "cpu")
    with Elsewhere():
        job.device, job.dataset = elsewhere.NAME, job.dataset.to(torch.device(elsewhere.NAME))
        with pytest.raises(ConfigError, match="one by one"):
            played(job)


@pytest.mark.parametrize(
    "wrong", [lambda x: x + torch.ones(3), lambda x: torch.stack([x, torch.zeros(3)])]
)
def test_tensors_of_two_devices_are_told(wrong: Any) -> None:
    with Elsewhere():
        far = torch.ones(3, device=elsewhere.NAME)
        assert (far + 1).cpu().tolist() == [1, 1, 1]
        with pytest.raises(RuntimeError, match="device"):
            wrong(far)
        with pytest.raises((RuntimeError, TypeError)):
            far.numpy()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ALL)
def test_a_gpu_computes_what_the_cpu_does(name: str, precision: str) -> None:
    settings = short(name)
    settings["train"] = settings["train"] | {"precision": precision}
    try:
        here = played(moved(settings, "cpu"))
    except ConfigError:
        pytest.skip("has no passes in bfloat16")
    there = played(moved(settings, "cuda")).cpu()
    off = float((there - here).norm() / here.norm())
    assert off < (1e-3 if precision == "float32" else 0.05)
