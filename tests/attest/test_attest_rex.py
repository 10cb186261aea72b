"""REX over eight attested processes: what the wire shows, who is refused, and who comes back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from hansa.base.modules import load_module
from hansa.codec import Codec, Tables
from hansa.engine.links.links import DATA
from hansa.engine.runtimes.checkpoint import latest
from hansa.report import RunFolder

from ..engine.link_sites import LinkSite
from ..experiment.sites import GATE, NAMES, Sites, sites
from ..toy.capturing import Capture
from .attested_sites import POLICY
from .test_attest_processes import attested, simulate_here

COUNT = 8
OWN = (
    '''
import time
from pathlib import Path
import numpy as np
from pydantic import Field
from hansa import register
from hansa.codec import Codec, PairGaps, Tables
from hansa.recommend.rex import Rex

@register("written")
class Written(PairGaps):
    """Ratings as lines that anybody can read: user,item,stars."""

    def encode(self, rows):
        tables = [rows.table(k) for k in range(len(rows))]
        return [
            "".join(f"{u},{i},{s:g}\\n" for u, i, s in zip(*columns)).encode()
            for columns in ([c.tolist() for c in t.values()] for t in tables)
        ]

    def decode(self, payload, elements):
        lines = bytes(payload).decode().split()
        user, item, stars = np.array([x.split(",") for x in lines], float).reshape(-1, 3).T
        columns = (user.astype(np.int64), item.astype(np.int64), stars.astype(np.float32))
        return Tables(np.array([0, len(lines)]), {str(k): x for k, x in enumerate(columns)})

    def through(self, rows):
        return rows

@register("gated_rex")
class GatedRex(Rex):
'''
    + GATE
)
"""A codec that hides nothing, and a rex whose fourth round waits until it may begin."""


@pytest.fixture(autouse=True)
def simulating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_SIMULATED_TEE", "1")


def of_other_code() -> None:
    """As if a byte of the package were another."""
    from hansa.attest import code

    simulate_here()
    other = hashlib.sha384(code.code_digest()).digest()
    code.code_digest.cache_clear()
    code.digest_of = lambda folder: other


def settings_of(folder: Path, **changes: Any) -> dict[str, Any]:
    """A run of 24 people at eight nodes, who write their ratings down."""
    (folder / "own.py").write_text(OWN)
    return {
        "verb": "recommend", "seed": 3, "nodes": COUNT, "rounds": 6,
        "plugins": [str(folder / "own.py")],
        "data": {"name": "synthetic_ratings", "people": 24, "items": 60, "per_user": 12},
        "model": {"name": "matrix_factorization", "factors": 3},
        "topology": {"name": "regular", "degree": 4},
        "algorithm": {
            "name": "gated_rex", "gate": str(folder / "go"), "ratings": 15, "steps": 25,
            "rating_codec": "written",
        },
        "evaluate": {"every": 6, "dense_start": False},
        "checkpoint": {"every": 1}, "baselines": [],
        **changes,
    }  # fmt: skip


@contextmanager
def eight(
    folder: Path, each: Callable[[int], dict[str, Any]], **changes: Any
) -> Iterator[tuple[Sites, list[Capture]]]:
    """Eight sites that reach each other through one who listens."""
    nodes = [[k] for k in range(COUNT)]
    with sites(folder, settings_of(folder, **changes), nodes, each) as made:
        wires = [Capture(f"127.0.0.1:{port}") for port in made.ports]
        try:
            for k in range(COUNT):
                peers = yaml.safe_load(made.file(k).read_text())["peers"]
                for peer in peers:
                    peer["address"] = wires[NAMES.index(peer["name"])].address
                made.change(k, peers=peers)
            yield made, wires
        finally:
            for wire in wires:
                wire.close()


def stored(made: Sites, k: int) -> Tables:
    """What a site has gathered, as a table."""
    checkpoint = latest(made.out(k) / "checkpoints")
    assert checkpoint is not None
    (path,) = checkpoint.glob("*.safetensors")
    file = load_file(path)
    pairs, stars = file["store.inputs"].numpy(), file["store.targets"].numpy()
    columns = {"user": pairs[:, 0], "item": pairs[:, 1], "stars": stars}
    return Tables(np.array([0, len(stars)]), columns)


def written(folder: Path) -> Codec:
    """The codec of the run's own file."""
    return Codec.resolve(vars(load_module(str(folder / "own.py")))["Written"]())


@pytest.mark.slow
def test_the_wire_of_eight_attested_sites_shows_no_rating(tmp_path: Path) -> None:
    channel = attested(tmp_path)
    (tmp_path / "go").touch()
    with eight(tmp_path, lambda k: {"channel": channel}) as (made, wires):
        made.start(before=simulate_here)
        made.finish()
        codec = written(tmp_path)
        lines = set[bytes]()
        for k in range(COUNT):
            gathered = codec.encode(stored(made, k))[0]
            lines |= {b"\n" + line for line in bytes(gathered).splitlines(keepends=True)}
            assert RunFolder.open(made.out(k)).summary["tee"] == "simulated"
        assert len(lines) > 100  # so many ratings have gone to others
        size = sum(wire.size for wire in wires)
        assert size > 100_000
        for wire in wires:
            for line in lines:
                assert not wire.holds(line), line
    payload = bytes(codec.encode(stored(made, 0))[0])
    near, far = LinkSite(0), LinkSite(1)  # what hides nothing shows each of them
    bare = Capture(far.address)
    near.links.send(1, DATA, [b"\n" + payload])
    near.meet((1, bare.address))
    far.until(lambda: far.got)
    assert all(bare.holds(b"\n" + line) for line in payload.splitlines(keepends=True))
    for site in (near, far):
        site.close()
    bare.close()


@pytest.mark.slow
def test_one_is_killed_one_comes_back_and_two_are_refused(tmp_path: Path) -> None:
    """Site 7 runs other code and site 6 has another policy; site 5 is killed, site 4 comes back."""

    def each(k: int) -> dict[str, Any]:
        policy = (POLICY + "vmpl: 1\n", "odd.yaml") if k == 6 else (POLICY, "policy.yaml")
        return {
            "channel": attested(tmp_path, *policy), "least": 5,
            "patience": {"start": 40.0, "peer": 60.0},
        }  # fmt: skip

    with eight(tmp_path, each, faults=None) as (made, _):
        made.start(*range(7), before=simulate_here)
        made.start(7, before=of_other_code)
        made.at_gate(0)
        assert made.status(6) != 0
        assert made.status(7) != 0
        for k, own, told in (
            (6, "has another policy", "(policy)"),
            (7, "runs other code", "(code)"),
        ):
            assert own in made.said(k) or f"not accepted {told}" in made.said(k)
        for k in (4, 5):
            made.at_gate(k)
            process = made.processes[k]
            assert process is not None
            process.kill()
            process.join()
        made.change(4, patience={"start": 10.0, "peer": 60.0})
        made.start(4, before=simulate_here)
        (tmp_path / "go").touch()
        for k in range(5):
            assert made.status(k) == 0, made.said(k)
        events = RunFolder.open(made.out(4)).events()
        assert [event for event in events if event["kind"] == "rejoined"]
        kinds = [event["kind"] for event in RunFolder.open(made.out(0)).events()]
        assert "missing" in kinds  # what site 5 would have sent
        assert len(stored(made, 0).columns["stars"]) > 0
