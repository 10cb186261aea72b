"""Sites that do not fit, are not there, or cannot be reached: a line for who is at fault, and the
others are left alone."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import hansa
from hansa.base.errors import HansaError
from hansa.cli.app import main
from hansa.engine.links import hello, keys
from hansa.engine.links.keys import Key
from hansa.experiment import RunFile
from hansa.experiment import run as simulate
from hansa.experiment.sites.entry import Entry
from hansa.experiment.sites.explaining import explained
from hansa.experiment.sites.site_file import SiteFile
from hansa.report import RunFolder

from .sites import PATIENCE, models_of, sites
from .test_experiment_node_runs import run_of


@pytest.mark.slow
def test_what_a_site_does_not_tell_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    settings = run_of(algorithm="fedavg")
    with sites(tmp_path, settings, [[0], [1], [2], [3]], lambda k: {"tells": []}) as made:
        made.start(0)
        assert made.status(0) == 2
        text = made.said(0)
        assert "tells = []: the run asks this site to tell how many examples its clients" in text
        assert "fix: tells: [sizes], if others may know" in text
        assert not made.out(0).exists()


def test_settings_that_differ_stop_the_site_that_differs(tmp_path: Path) -> None:
    settings = run_of(rounds=2)
    with sites(tmp_path, settings, [[0], [1], [2]]) as made:
        other = (tmp_path / "run.yaml").read_text().replace("local_steps: 2", "local_steps: 3")
        (tmp_path / "other.yaml").write_text(other)
        made.change(2, run="other.yaml")
        made.start()
        assert made.status(2) == 2
        assert "different settings of: train.local_steps; make them the same" in made.said(2)
        made.change(2, run="run.yaml")
        made.start(2)
        made.finish()
        assert "train.local_steps" in made.said(0)
        for line in ("north and east", "south and east"):  # one line, whoever says it
            assert line in made.said(2) or line in made.said(0) + made.said(1)
        said = made.said(0) + made.said(1) + made.said(2)
        assert "east and" not in said
        assert "site 2" not in said
        peers = json.loads((made.out(0) / "peers.json").read_text())["peers"]
        assert min(peer["round"] for peer in peers) >= 1  # as it was at the end


def test_a_table_that_lacks_a_column_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("age,outcome\n" + "60,ill\n40,well\n" * 10)
    data = {"name": "file", "path": "own.csv", "label": "outcome", "inputs": ["age", "pressure"]}
    settings = run_of(data=data, model="logistic")
    own = {"data": {"path": str(tmp_path / "own.csv")}}
    with (
        sites(tmp_path, settings, [[0], [1], [2]], lambda k: own) as made,
        pytest.raises(HansaError, match=r"pressure.*: is not a column of .*own\.csv") as told,
    ):
        explained(SiteFile.load(made.file(0)))
    assert "one of age, outcome" in str(told.value)


@pytest.mark.slow
def test_a_key_that_nobody_knows_and_one_that_has_expired(tmp_path: Path) -> None:
    with sites(tmp_path, run_of(rounds=2), [[0], [1], [2]]) as made:
        Key.generate("stranger").save(tmp_path / "stranger.key")
        made.change(2, key="stranger.key")
        made.start()
        assert made.status(2) == 2
        assert "peers: " in made.said(2)
        (tmp_path / "broken.key").write_text("no key")
        (tmp_path / "broken.key").chmod(0o600)
        made.change(2, key="broken.key")
        made.start(2)
        assert made.status(2) == 2
        assert "holds no private key" in made.said(2)
        made.change(2, key="east.key")
        made.start(2)
        made.finish()


@pytest.mark.slow
def test_a_port_in_use_and_too_few_sites(tmp_path: Path) -> None:
    with sites(tmp_path, run_of(rounds=2), [[0], [1], [2]]) as made:
        patience = {"start": 3.0, "peer": 240.0}
        made.change(0, listen=f"127.0.0.1:{made.ports[1]}", patience=patience)
        made.start(1)
        made.wait(1, "waiting for")
        taken = yaml_without_address(made, 0, 1)
        made.start(0)
        assert made.status(0) == 2
        assert "listen" in made.said(0), taken
        assert "in use" in made.said(0)
        made.change(0, listen=f"127.0.0.1:{made.ports[0]}")
        made.start(0)
        assert made.status(0) == 2
        assert "after 3 s there are 2 of 3 sites, not east" in made.said(0)
        assert not made.out(0).exists()
        made.change(0, patience={"start": 240.0, "peer": 240.0})
        made.start(0, 2)
        made.finish()


def yaml_without_address(made: Any, k: int, other: int) -> str:
    """A site's file in which a peer only dials, so that two may claim one port."""
    site = yaml.safe_load(made.file(k).read_text())
    for peer in site["peers"]:
        if peer["address"].endswith(str(made.ports[other])):
            peer["address"] = None
    made.file(k).write_text(yaml.safe_dump(site))
    return str(site["listen"])


def expired(name: str) -> Key:
    """A key that held until yesterday."""
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    return keys._signed(name, now - 3 * day, now - day)


@pytest.mark.slow
def test_a_key_that_held_until_yesterday(tmp_path: Path) -> None:
    with sites(tmp_path, run_of(rounds=1), [[0], [1], [2]]) as made:
        expired("east").save(tmp_path / "expired.key")
        made.change(2, key="expired.key")
        made.start()
        assert made.status(2) == 2
        assert "has expired on" in made.said(2)
        assert "hansa node keygen" in made.said(2)
        assert not made.out(2).exists()
        made.change(2, key="east.key")
        made.start(2)
        made.finish()


def says(now: Any, before: Any) -> None:
    """Let this process's greetings say another thing."""
    said = hello.Hello.__init__.__defaults__ or ()
    assert before in said
    hello.Hello.__init__.__defaults__ = tuple(now if one == before else one for one in said)


def of_another_version() -> None:
    """Make this process one of a later hansa."""
    says("99.1.0", hansa.__version__)
    hansa.__version__ = "99.1.0"


def of_another_protocol() -> None:
    """Make this process one that speaks a later protocol alone."""
    says((98, 99), hello.PROTOCOL)
    hello.PROTOCOL = (98, 99)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "text"),
    [
        (of_another_version, r"runs hansa .*\b99\.1\.0"),
        (of_another_protocol, r"speaks versions .*\b98 to 99"),
    ],
)
def test_mixed_versions(tmp_path: Path, before: Any, text: str) -> None:
    with sites(tmp_path, run_of(rounds=1), [[0], [1], [2]]) as made:
        made.start(0, 1)
        made.start(2, before=before)
        assert made.status(2) == 2
        assert "install one version of hansa at both" in made.said(2)
        made.start(2)
        made.finish()
        assert re.search(text, made.said(0) + made.said(1) + made.said(2))  # whoever says it


def test_two_sites_that_only_dial_meet_through_a_third(tmp_path: Path) -> None:
    with sites(tmp_path, run_of(rounds=2), [[0], [1], [2]]) as made:
        for k in range(3):
            site = yaml.safe_load(made.file(k).read_text())
            for peer in site["peers"]:
                if peer["name"] == "north":
                    peer["relay"] = True
                else:
                    peer["address"] = None
            hidden: dict[str, Any] = {"relay": True} if k == 0 else {"listen": None}
            made.change(k, peers=site["peers"], **hidden)
        made.start()
        made.finish()
        run = RunFile.parse(run_of(rounds=2))
        simulated = simulate(run, tmp_path / "simulated", report=False)
        folders = [made.out(k) for k in range(3)]
        assert torch.equal(models_of(folders, run), models_of([simulated.path], run))
        made.change(1, peers=[{**peer, "relay": False} for peer in
                              yaml.safe_load(made.file(1).read_text())["peers"]])  # fmt: skip
        assert main(["node", "run", str(made.file(1))]) == 2


def test_who_only_dials_needs_a_relay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sites(tmp_path, run_of(rounds=2), [[0], [1], [2]]) as made:
        site = yaml.safe_load(made.file(1).read_text())
        site["peers"][1]["address"] = None
        made.change(1, listen=None, peers=site["peers"])
        assert main(["node", "run", str(made.file(1))]) == 2
        assert "east only dials, as this site does" in capsys.readouterr().err


PACED = """
import time
from pathlib import Path
from hansa import register
from hansa.learn.gossip.dpsgd import DPSGD

@register("paced")
class Paced(DPSGD):
    enough: str = ""

    def round(self, block, t):
        if not Path(self.enough).exists():
            time.sleep(0.3)
        return (yield from super().round(block, t))
"""
"""An algorithm in a file of its own that takes its time until it has lasted long enough: a site
cannot hear others in the middle of a round, so that no round may wait for one who comes."""


@pytest.mark.slow
def test_those_who_are_there_begin_and_who_is_late_takes_part(tmp_path: Path) -> None:
    (tmp_path / "paced.py").write_text(PACED)
    algorithm = {"name": "paced", "enough": str(tmp_path / "enough")}
    settings = run_of(rounds=400, algorithm=algorithm, plugins=[str(tmp_path / "paced.py")])
    with sites(tmp_path, settings, [[0], [1], [2]]) as made:
        for k in (0, 1):  # as long as a busy machine takes to start the two, and no longer
            made.change(k, least=2, patience={**PATIENCE, "start": 15.0})
        made.start(0, 1)
        made.wait(0, "/400: ")
        made.start(2)
        made.wait(0, "east is back")
        (tmp_path / "enough").touch()
        made.finish()
        (back,) = [e for e in RunFolder.open(made.out(2)).events() if e["kind"] == "rejoined"]
        assert 0 == back["from"] < back["at"]
        summaries = [RunFolder.open(made.out(k)).summary or {} for k in range(3)]
        assert {one["rounds"] for one in summaries} == {400}


def test_a_client_waits_for_a_server_longer_than_for_a_peer(tmp_path: Path) -> None:
    settings = run_of(algorithm={"name": "fedavg", "sampled": 3}, rounds=1)
    patience = {"start": 240.0, "peer": 200.0, "server": 300.0}
    with sites(tmp_path, settings, [[0], [1], [2], [3]], lambda k: {"patience": patience}) as made:
        for k, expected in (
            (0, {1: 200.0, 2: 200.0, 3: 300.0}),
            (3, dict.fromkeys(range(3), 200.0)),
        ):
            entry = Entry.of(SiteFile.load(made.file(k)))
            assert entry.waits() == expected


@pytest.mark.slow
def test_clients_do_no_rounds_without_a_server_that_has_ended(tmp_path: Path) -> None:
    """They wait for it, and go on where it was when it comes back."""
    settings = run_of(algorithm="fedavg", rounds=60, evaluate={"every": 60})
    with sites(tmp_path, settings, [[0, 1], [2, 3]]) as made:
        made.start()
        made.wait(1, "round 2/60")
        server = made.processes[1]
        assert server is not None
        assert server.pid is not None
        os.kill(server.pid, signal.SIGTERM)
        assert made.status(1) == 130
        made.wait(0, "waiting for south, where the server lives, at most 240 s")
        made.start(1)
        made.finish()
        events = RunFolder.open(made.out(0)).events()
        rounds = {e["round"] for e in events if e["kind"] == "missing" and e["of"] == "invite"}
        assert len(rounds) <= 2, made.said(0)


def test_a_client_whose_server_does_not_come_back_ends_with_a_line(tmp_path: Path) -> None:
    settings = run_of(algorithm="fedavg", rounds=500, evaluate={"every": 500})
    patience = {**PATIENCE, "server": 1.0}
    with sites(tmp_path, settings, [[0, 1], [2, 3]], lambda k: {"patience": patience}) as made:
        made.start()
        made.wait(1, "round 2/500")
        server = made.processes[1]
        assert server is not None
        assert server.pid is not None
        os.kill(server.pid, signal.SIGTERM)
        assert made.status(0) == 1
        assert "south, where the server lives, was not there for 1 s" in made.said(0)
        assert (RunFolder.open(made.out(0)).summary or {})["status"] == "failed"
