"""Files for sites that share no disk: pieces, whole and in order, and nobody else's."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError, RunError, WireError
from hansa.base.paths import path_fields
from hansa.engine import Job
from hansa.engine.exchange.faults import Faults
from hansa.engine.links.keys import Key
from hansa.engine.links.shaping import Shaping
from hansa.engine.runtimes import supplies
from hansa.engine.runtimes.carried import carried, carried_files, carry, files_of, relocated
from hansa.engine.runtimes.checkpoint import save_block
from hansa.engine.runtimes.control import Message
from hansa.engine.runtimes.supplies import Depot, Remote, part_limit
from hansa.engine.settings import CheckpointSettings, EvaluateSettings, TrainSettings

IDS = np.array([4, 7])
NAME = "nodes-000004-000007.safetensors"


def roomy(ids: np.ndarray) -> int:
    """No part is too large."""
    return 1 << 30


class Desk:
    """A site as its ledger sees it, with who gathers at the other end of a call."""

    deadline = 60.0

    def __init__(self, depot: Depot, index: int = 1) -> None:
        self.depot, self.index = depot, index
        self.answers: list[Message] = []
        self.said: list[str] = []
        self.links = self
        self.ticket = self
        self.sites, self.incarnation = (0, 1), 0

    def say(self, site: int, kind: str, **fields: Any) -> None:
        self.said.append(kind)
        if kind == "want":
            piece = self.depot.piece(self.index, **fields)
            self.answers.append(Message(site, "piece", piece))
        elif kind == "part":
            self.depot.bring(self.index, IDS, fields)
        elif kind == "saved":
            self.depot.put(self.index, fields["round"], fields["entry"])

    def hear(self, wait: float = 0.0) -> Message | None:
        return self.answers.pop(0)

    def queued(self, site: int) -> int:
        return 0


def remote(desk: Desk, folder: Path) -> Remote:
    return Remote(desk, folder)  # type: ignore[arg-type]


@given(data=st.binary(max_size=300), piece=st.integers(1, 100))
def test_a_file_comes_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, piece: int
) -> None:
    folder = tmp_path_factory.mktemp("supplies")
    (folder / "plan").write_bytes(data)
    depot = Depot(folder / "checkpoints", roomy)
    depot.lay(1, {"parties/plan": folder / "plan"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supplies, "PIECE", piece)
        desk = Desk(depot)
        path = remote(desk, folder / "site").fetch("parties/plan")
    assert path == folder / "site" / "parties" / "plan"
    assert path.read_bytes() == data
    assert len(desk.said) == max(1, -(-len(data) // piece))


@given(data=st.binary(min_size=1, max_size=300), piece=st.integers(1, 100))
def test_a_part_of_a_checkpoint_is_brought(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, piece: int
) -> None:
    folder = tmp_path_factory.mktemp("supplies")
    own = folder / "site" / "checkpoints" / "round-000006" / NAME
    own.parent.mkdir(parents=True)
    own.write_bytes(data)
    depot = Depot(folder / "run", roomy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supplies, "PIECE", piece)
        entry = {"file": NAME, "nodes": [4, 7], "sha256": hashlib.sha256(data).hexdigest()}
        remote(Desk(depot), folder / "site").saved(6, entry)
    assert (folder / "run" / "round-000006" / NAME).read_bytes() == data
    assert not own.exists()
    assert [path.name for path in (folder / "run" / "round-000006").iterdir()] == [NAME]


def test_a_site_gets_only_what_is_laid_out_for_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    depot = Depot(tmp_path, roomy)
    depot.lay(0, {"worker-0": tmp_path / "secret"})
    for site, name in ((1, "worker-0"), (0, "secret"), (0, "../secret"), (0, str(tmp_path))):
        with pytest.raises(WireError, match="is laid out"):
            depot.piece(site, name, 0)
    assert depot.piece(0, "worker-0", 7) == {"name": "worker-0", "at": 7, "data": b"", "last": True}


def test_who_gathers_cannot_write_where_it_likes(tmp_path: Path) -> None:
    depot = Depot(tmp_path, roomy)
    for name in ("../outside", "/tmp/outside", "a/../../outside"):
        with pytest.raises(WireError, match="leads elsewhere"):
            remote(Desk(depot), tmp_path / "site").fetch(name)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "nodes-000000-000003.safetensors"}, "not its part"),
        ({"name": "../../evil"}, "not its part"),
        ({"at": 3}, "not the next"),
        ({"round": 5, "at": 2}, "not the next"),
        ({"data": b"x" * (supplies.PIECE + 1)}, "a piece of"),
    ],
)
def test_a_piece_that_does_not_fit_is_refused(
    tmp_path: Path, fields: dict[str, Any], problem: str
) -> None:
    depot = Depot(tmp_path, roomy)
    begun = {"round": 6, "name": NAME, "at": 0, "data": b"ab"}
    depot.bring(1, IDS, begun)
    with pytest.raises(WireError, match=problem):
        depot.bring(1, IDS, {**begun, "at": 2, **fields})
    depot.bring(1, IDS, {**begun, "at": 2, "data": b"cd"})
    entry = {"file": NAME, "nodes": [4, 7], "sha256": hashlib.sha256(b"abcd").hexdigest()}
    depot.put(1, 6, entry)
    assert (tmp_path / "round-000006" / NAME).read_bytes() == b"abcd"
    with pytest.raises(WireError, match="did not bring"):
        depot.put(1, 6, entry)


def test_other_bytes_than_were_said_are_not_kept(tmp_path: Path) -> None:
    depot = Depot(tmp_path, roomy)
    depot.bring(1, IDS, {"round": 6, "name": NAME, "at": 0, "data": b"ab"})
    with pytest.raises(WireError, match="bytes are others"):
        depot.put(1, 6, {"file": NAME, "nodes": [4, 7], "sha256": hashlib.sha256(b"x").hexdigest()})
    assert not list((tmp_path / "round-000006").iterdir())


def test_a_file_that_is_gone_ends_the_run_with_its_name(tmp_path: Path) -> None:
    depot = Depot(tmp_path, roomy)
    depot.lay(1, {"plan": tmp_path / "plan"})
    with pytest.raises(RunError, match="cannot be read any more") as told:
        depot.piece(1, "plan", 0)
    (line,) = str(told.value).splitlines()
    assert f"worker 1 needs {tmp_path / 'plan'}" in line
    assert "No such file" in line


def test_a_part_that_is_too_large_ends_the_run_and_is_not_kept(tmp_path: Path) -> None:
    depot = Depot(tmp_path, lambda ids: 3 * len(ids))
    depot.bring(1, IDS, {"round": 6, "name": NAME, "at": 0, "data": b"abcdef"})
    with pytest.raises(RunError, match=r"worker 1's part .* larger than 6 bytes"):
        depot.bring(1, IDS, {"round": 6, "name": NAME, "at": 6, "data": b"g"})
    assert not list((tmp_path / "round-000006").iterdir())


@pytest.mark.parametrize("name", ["dpsgd", "choco", "scaffold", "adpsgd"])
def test_what_nodes_keep_is_far_below_the_limit(
    make_job: Callable[..., Job], host: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    adam = {"name": "adam", "lr": 0.01}
    job = make_job({"algorithm": name, "rounds": 2, "train.optimizer": adam})
    block, _ = host(job)
    entry = save_block(block, tmp_path, 2)
    size = (tmp_path / "round-000002" / entry["file"]).stat().st_size
    limit = part_limit(job, block.ids)
    assert 0 < size < (limit - (64 << 20)) / 4  # without the slack
    assert limit < 1 << 32  # of a small run: nobody fills a disk
    assert part_limit(job, block.ids[:1]) < limit


OWN = """
from pathlib import Path
from torch import nn
from hansa.topology import Ring

class Mine(Ring):
    table: Path | None = None
    note: str = ""

def net(hints):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


def test_only_files_that_are_declared_come_along(
    make_job: Callable[..., Job], tmp_path: Path
) -> None:
    names = ("mine.py", "table.csv", "hints.txt", "token", "other.py", "site.csv")
    paths = {name: tmp_path / name for name in names}
    for name, path in paths.items():
        path.write_text(OWN if name == "mine.py" else name)
    code, table = str(paths["mine.py"]), str(paths["table.csv"])
    token = str(paths["token"])
    own = {"name": f"{code}:Mine", "table": table, "note": token}
    model = {"name": "module", "path": f"{code}:net"}
    model["arguments"] = {"hints": str(paths["hints.txt"])}  # type: ignore[assignment]
    plugins = {"plugins": [code], "train.strategy": "looped"}
    job = make_job({"topology": own, "model": model, **plugins})
    notes = token, str(paths["other.py"])
    job.dataset = replace(job.dataset, notes=notes, name=str(paths["site.csv"]))
    assert files_of(job.plan) == sorted([code, table, str(paths["hints.txt"])])


def test_a_private_key_is_dealt_to_nobody(tmp_path: Path) -> None:
    path = tmp_path / "hints.txt"
    Key.generate("here").save(path)
    (tmp_path / "parties").mkdir()
    with pytest.raises(ConfigError, match="is a private key") as told:
        carry(tmp_path / "parties", [str(path)])
    assert told.value.value == str(path)
    assert b"PRIVATE" not in b"".join(p.read_bytes() for p in (tmp_path / "parties").rglob("*.*"))


PARTS = """marker model metric topology codec rule aggregator attack optimizer schedule budget
augmentation clock profiles availability algorithm judge sampler server cohorts"""


def test_what_a_plan_is_made_of_names_no_secrets() -> None:
    """A new setting that is a path, of anything in a plan, has to be looked at here."""
    parts = {(kind, cls) for kind in PARTS.split() for cls in catalogue(kind).values()}
    parts = {(kind, cls) for kind, cls in parts if cls.__module__.startswith("hansa.")}
    groups = (Faults, Shaping, TrainSettings, EvaluateSettings, CheckpointSettings)
    parts |= {(cls.__name__, cls) for cls in groups}
    paths = {f"{kind}.{name}" for kind, cls in parts for name in path_fields(cls)}
    tables = {"topology.path", "profiles.file", "availability.file", "cohorts.path"}
    models = {"model.path", "model.arguments", "model.base"}  # code, its arguments, what is public
    assert paths == tables | models | {"Shaping.matrix", "Shaping.trace"}


def test_what_comes_along_is_read_where_it_is_put(tmp_path: Path) -> None:
    code, table = tmp_path / "mine.py", tmp_path / "table.csv"
    code.write_text("x = 1")
    table.write_text("1,2")
    facts = {
        "plugins": [str(code)],
        "algorithm": {"name": f"{code}:Mine", "table": str(table), "of": [1, None, "/nowhere"]},
        "text": f"about {code}",
    }
    folder = tmp_path / "parties"
    folder.mkdir()
    carry(folder, [str(code), str(table)])
    places = carried(folder)
    assert places.keys() == {str(code), str(table)}
    assert {Path(place).read_text() for place in places.values()} == {"x = 1", "1,2"}
    assert len(carried_files(folder)) == 3
    there = relocated(facts, places)
    assert there["plugins"] == [places[str(code)]]
    assert there["algorithm"]["name"] == f"{places[str(code)]}:Mine"
    assert there["algorithm"]["table"] == places[str(table)]
    assert there["algorithm"]["of"] == [1, None, "/nowhere"]
    assert there["text"] == facts["text"]
    assert relocated(there, {place: path for path, place in places.items()}) == facts
