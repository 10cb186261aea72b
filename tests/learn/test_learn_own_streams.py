"""What nodes draw for themselves follows from their holder's secret, where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base import streams as streams_module
from hansa.base.streams import SHARED, Streams
from hansa.engine import Block, Job
from hansa.engine.runtimes.checkpoint import load_block, read_manifest, save_block, seal
from hansa.engine.runtimes.host import Host

Make = Callable[..., Job]
SECRETS = [b"a secret that nobody is told, %d" % w for w in range(8)]
AGREED = {"el_local", "sampling", "failure", "secure_dpsgd share", "scalefl level"}
"""What both ends of a message, or every worker, draw alike for a node."""
PEERS: dict[str, dict[str, Any]] = {
    "dpsgd": {},
    "local_sgd": {},
    "el_local": {},
    "jwins": {},
    "random_sampling": {"share": 0.5},
    "choco": {"select": "random", "share": 0.5},
    "skiptrain_constrained": {"budget": 2},
    "secure_dpsgd": {"share": 0.5},
}
SERVED: dict[str, dict[str, Any]] = {
    "fedavg": {"sampled": 4},
    "scaffold": {},
}


def changes_of(name: str, own: dict[str, Any]) -> dict[str, Any]:
    topology = {"name": "regular", "degree": 4}
    return {"algorithm": {"name": name, **own}, "rounds": 4, "topology": topology}


def with_secret(job: Job, secret: bytes | None) -> Job:
    job.streams = Streams(job.streams.seed, secret)
    return job


@pytest.mark.parametrize("name", [*PEERS, *SERVED])
def test_a_secret_a_block_changes_the_draws_and_nothing_else(
    make_job: Make, host: Callable[..., Any], host_apart: Callable[..., Any], name: str
) -> None:
    changes = changes_of(name, {**PEERS, **SERVED}[name])
    seeded, _ = host(make_job(changes))

    def apart(shift: int) -> Any:
        dealt = iter(SECRETS[shift:])
        return host_apart(lambda: with_secret(make_job(changes), next(dealt)), 2)[0]

    rows = apart(0)
    assert torch.isfinite(rows).all()
    assert torch.equal(rows, apart(0))
    assert not torch.equal(rows, seeded.rows)
    assert not torch.equal(rows, apart(1))


@pytest.mark.parametrize("name", [*PEERS, *SERVED])
def test_nothing_of_a_node_alone_is_drawn_from_the_runs_seed(
    make_job: Make, host: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    drawn: set[str] = set()
    plain = streams_module.Streams.key

    def key(self: Streams, purpose: str, node: int = SHARED, round: int = SHARED) -> bytes:
        if node != SHARED:
            drawn.add(purpose)
        return plain(self, purpose, node, round)

    changes = changes_of(name, {**PEERS, **SERVED}[name])
    job = with_secret(make_job(changes), SECRETS[0])
    monkeypatch.setattr(streams_module.Streams, "key", key)
    host(job)
    assert drawn <= AGREED
    drawn.clear()
    host(with_secret(make_job(changes), None))
    assert "batches" in drawn  # so the spy sees what it should


def test_a_resume_with_the_same_secret_goes_on_as_if_nothing_had_been(
    make_job: Make, tmp_path: Path
) -> None:
    changes = changes_of("jwins", {})
    job = with_secret(make_job(changes), SECRETS[0])
    job.checkpoint = job.checkpoint.model_copy(update={"every": 2})
    block = job.block(np.arange(8))

    def save(block: Block, done: int) -> None:
        seal(tmp_path, done, [save_block(block, tmp_path, done)], keep=9)

    Host(job, block, job.exchange(), lambda report: None, save).run()
    folder = tmp_path / "round-000002"
    for secret, same in ((SECRETS[0], True), (SECRETS[1], False)):
        again = with_secret(make_job(changes), secret)
        resumed = again.block(np.arange(8))
        load_block(resumed, folder, read_manifest(folder))
        exchange = again.exchange()
        Host(again, resumed, exchange, lambda report: None, lambda block, done: None).run(2)
        assert torch.equal(resumed.rows, block.rows) == same
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRETS[0] not in held
    assert streams_module._Own(job.streams.seed, SECRETS[0])._secret not in held
