"""Whole audits: what is found, what is refused before anything is asked, and what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.audit.asking import Asking
from hansa.audit.audit_file import AuditFile
from hansa.audit.populations.made import Made
from hansa.audit.preparing import planned_facts, prepare
from hansa.audit.run import audit, resume
from hansa.base.errors import CheckpointError, ConfigError, HansaWarning, RunError

from .stub_platform import Platform, serving

MADE: dict[str, Any] = {
    "name": "made",
    "rows": 600,
    "attributes": {
        "sex": {"men": 0.6, "women": 0.4},
        "age": {"young": 0.7, "old": 0.3},
        "origin": {"here": 0.5, "near": 0.3, "far": 0.2},
    },
    "effects": {"sex": {"women": -0.3}},
    "accuracy": 0.9,
}
BASE: dict[str, Any] = {"population": MADE, "attributes": ["sex", "age", "origin"], "budget": 60}


def rare(name: str, **shares: float) -> dict[str, Any]:
    """The made population with other shares of an attribute's groups."""
    return {**MADE, "attributes": {**MADE["attributes"], name: shares}}


def settings(**more: Any) -> dict[str, Any]:
    return {**BASE, **more}


def ran(tmp_path: Path, name: str = "run", **more: Any) -> Path:
    return audit(settings(**more), tmp_path / name, report=False).path


def read(path: Path, name: str = "audit.json") -> Any:
    return json.loads((path / name).read_text())


def rows_of(path: Path) -> dict[str, list[int]]:
    """What each agent asked, as its ledger has it."""
    asked = {}
    for ledger in sorted((path / "ledger").glob("*.jsonl")):
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]
        asked[lines[0]["agent"]] = [
            row for line in lines if line["kind"] == "asking" for row in line["rows"]
        ]
    return asked


@pytest.mark.parametrize("collaboration", ["none", "a_posteriori", "a_priori"])
@pytest.mark.parametrize("sampling", ["uniform", "stratified", "neyman", "adaptive_neyman"])
def test_every_strategy_ends_within_its_budgets(
    tmp_path: Path, sampling: str, collaboration: str
) -> None:
    strategy = {"sampling": sampling, "collaboration": collaboration}
    path = ran(tmp_path, strategy=strategy, cross_check=0.1)
    found, summary = read(path), read(path, "summary.json")
    assert summary["final"]["queries"] == {"sex": 60, "age": 60, "origin": 60}
    assert {row["attribute"] for row in found["findings"]} == {"sex", "age", "origin"}
    for row in found["findings"]:
        assert row["low"] <= row["estimate"] <= row["high"]
    for rows in rows_of(path).values():
        assert len(set(rows)) == len(rows) == 60
    assert found["consistency"]["verdict"] == "consistent"
    assert found["consistency"]["pairs"] >= 18
    assert (summary["bytes_sent"] > 0) == (collaboration != "none" or bool(found["agents"]))


def test_an_audit_of_everybody_finds_the_truth(tmp_path: Path) -> None:
    strategy = {"sampling": "stratified", "collaboration": "none"}
    metrics = ["demographic_parity", "impact_ratio", "equal_opportunity", "equalized_odds"]
    path = ran(tmp_path, strategy=strategy, budget=600, metrics=metrics, attributes=["sex", "age"])
    for row in read(path)["findings"]:
        assert row["estimate"] == pytest.approx(row["truth"])
        assert row["low"] == pytest.approx(row["high"])
        assert row["verdict"] != "undecided"
    population = Made.parse({k: v for k, v in MADE.items() if k != "name"}).read()
    codes, answers = population.attributes["sex"].codes, population.answers
    assert answers is not None
    gap = answers[codes == 1].mean() - answers[codes == 0].mean()
    assert read(path)["findings"][0]["estimate"] == pytest.approx(gap)


@pytest.mark.parametrize("sharing", ["rows", "counts", "sums"])
def test_sharing_less_finds_the_same(tmp_path: Path, sharing: str) -> None:
    plan = {"sampling": "adaptive_neyman", "collaboration": "a_priori"}
    metrics = ["demographic_parity", "equal_opportunity"]
    by_rows = read(ran(tmp_path, "rows", strategy=plan, metrics=metrics))
    path = ran(tmp_path, "other", strategy=plan, metrics=metrics, sharing=sharing)
    assert read(path)["findings"] == by_rows["findings"]
    assert all(one["bytes_sent"] > 0 for one in read(path)["agents"])


def test_a_frame_has_the_shape_of_a_metric_frame(tmp_path: Path) -> None:
    path = ran(tmp_path, metrics=["demographic_parity", "equalized_odds"])
    frame = read(path, "metricframe.json")["origin"]
    rates = frame["by_group"]["selection_rate"]
    assert list(rates) == ["here", "near", "far"]
    assert set(frame["by_group"]) == {
        "selection_rate", "true_positive_rate", "false_positive_rate", "count",
    }  # fmt: skip
    low, high = min(rates.values()), max(rates.values())
    assert frame["difference"]["between_groups"]["selection_rate"] == pytest.approx(high - low)
    assert frame["ratio"]["between_groups"]["selection_rate"] == pytest.approx(low / high)
    assert low <= frame["overall"]["selection_rate"] <= high
    assert frame["group_min"]["selection_rate"] == low


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown attribute": ({"attributes": ["sexx"]}, "attributes.0", "did you mean 'sex'"),
    "an unknown attribute of an agent": (
        {"attributes": [], "agents": [{"attribute": "race", "budget": 5}]},
        "agents.0.attribute",
        "it has sex, age, origin",
    ),
    "a constant attribute": (
        {"population": rare("age", young=0.9999, old=0.0001), "attributes": ["age"]},
        "attributes.0",
        "is constant",
    ),
    "an empty stratum": (
        {
            "population": rare("origin", here=0.5, near=0.4999, far=0.0001),
            "attributes": ["origin"],
        },
        "attributes.0",
        "an empty stratum",
    ),
    "a budget of zero": ({"budget": 0}, "budget", "greater than or equal to 1"),
    "no budget": ({"budget": None}, "budget", "nobody says how many"),
    "a budget above the population": ({"budget": 601}, "budget", "above the 600 rows"),
    "agents and attributes": ({"agents": [{"attribute": "sex"}]}, "attributes", "agents as well"),
    "two agents of a name": (
        {"attributes": [], "agents": [{"attribute": "sex"}, {"attribute": "sex"}]},
        "agents",
        "is the name of two agents",
    ),
    "an unknown reference": ({"reference": {"sex": "man"}}, "reference.sex", "is no group of sex"),
    "a reference of nobody": ({"reference": {"race": "x"}}, "reference.race", "audited by nobody"),
    "labels that are not there": (
        {"population": {**MADE, "accuracy": None}, "metrics": ["equal_opportunity"]},
        "metrics.0",
        "needs true outcomes",
    ),
    "nothing to find": ({"metrics": []}, "metrics", "nothing is to be found out"),
    "too many liars": ({"liars": {"f": 2}}, "liars.f", "of 3 agents"),
    "a rule that needs more": (
        {"liars": {"f": 1, "pooling": {"name": "trimmed_mean", "f": 2}}},
        "liars.pooling",
        "needs 5 agents",
    ),
    "liars who are nobody": ({"liars": {"agents": ["him"]}}, "liars.agents", "no such agent"),
    "liars behind sums": ({"liars": {"f": 1}, "sharing": "sums"}, "sharing", "goes unseen"),
    "liars who are not outvoted": (
        {"liars": {"f": 1}, "strategy": {"collaboration": "none"}},
        "strategy.collaboration",
        "outvoted",
    ),
    "counts of rows that may be the same": (
        {"sharing": "sums", "strategy": {"collaboration": "a_posteriori"}},
        "strategy.collaboration",
        "count twice",
    ),
    "a check by one alone": ({"attributes": ["sex"], "cross_check": 0.1}, "cross_check", "second"),
    "a check that leaves too little": (
        {"attributes": ["sex", "origin"], "budget": 4, "cross_check": 0.5},
        "budget",
        "each needs a question",
    ),
    "a box without outcomes": (
        {"box": {"name": "table", "path": "no.csv", "decision": "a", "positive": 1}},
        "box.path",
        "no such file",
    ),
    "an unknown box": ({"box": "blackbox"}, "box.name", "table"),
}


@pytest.mark.parametrize(("change", "field", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_work_is_refused_before_anything_is_asked(
    tmp_path: Path, change: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        audit(settings(**change), tmp_path / "run")
    assert error.value.field == field
    assert words in str(error.value)
    assert not (tmp_path / "run").exists(), "not even a folder is left"


def test_a_plan_says_what_it_costs_and_asks_nothing(tmp_path: Path) -> None:
    box = {"name": "http", "url": "http://127.0.0.1:9/", "queries_a_second": 2.0}
    facts = planned_facts(prepare(AuditFile.parse(settings(box=box, cross_check=0.1))))
    assert facts["cost"] == {
        "queries": {"sex": 60, "age": 60, "origin": 60},
        "checks": {"sex": 6, "age": 6, "origin": 6},
        "calls": 180,
        "least_seconds": 30.0,
    }
    errors = [one["error"] for one in facts["forecasts"]]
    assert errors == sorted(errors)
    assert facts["forecasts"][0]["chosen"]
    chosen = settings(strategy={"sampling": "uniform", "collaboration": "none"})
    facts = planned_facts(prepare(AuditFile.parse(chosen)))
    assert [one["strategy"] for one in facts["forecasts"] if one["chosen"]] == ["uniform none"]


def test_a_setting_of_auto_makes_a_strategy() -> None:
    from hansa.experiment.settings_file import override

    changed = override(settings(strategy="auto"), ("strategy.sampling=uniform",))
    strategy = AuditFile.parse(changed).strategy
    assert not isinstance(strategy, str)
    assert (strategy.sampling, strategy.collaboration) == ("uniform", "a_priori")
    assert AuditFile.parse(AuditFile.parse(changed).dump()).strategy == strategy


def test_a_platform_that_favours_a_known_auditor_is_named(tmp_path: Path) -> None:
    box = {"name": "disturbed", "of": "own", "known": ["age"], "favour": 0.6}
    found = read(ran(tmp_path, box=box, cross_check=0.3))
    assert found["consistency"]["verdict"] == "answers age differently"
    assert found["consistency"]["singled_out"] == ["age"]
    with pytest.raises(RunError, match="changes its answers, as about members"):
        ran(tmp_path, "stopped", box=box, cross_check=0.3, on_change="stop")
    assert read(tmp_path / "stopped", "summary.json")["status"] == "failed"
    noisy = read(ran(tmp_path, "noisy", box={**box, "known": [], "flip": 0.2}, cross_check=0.3))
    assert noisy["consistency"]["verdict"] == "changes its answers"


def test_a_platform_that_refuses_is_counted(tmp_path: Path) -> None:
    box = {"name": "disturbed", "of": "own", "refuse": 0.3}
    found = read(ran(tmp_path, box=box))
    refused = sum(one["refused"] for one in found["agents"])
    assert 30 < refused < 80
    of_sex = found["groups"]["sex"]
    assert sum(row["refused"] for row in of_sex) == refused
    assert all(row["asked"] == row["answered"] + row["refused"] for row in of_sex)


def test_liars_are_outvoted_and_named(tmp_path: Path) -> None:
    more = {"budget": 200, "strategy": {"sampling": "stratified", "collaboration": "a_posteriori"}}
    lie = {"attack": "flip", "agents": ["sex"]}
    robust = read(ran(tmp_path, "robust", liars={"f": 1, **lie}, **more))
    naive = read(ran(tmp_path, "naive", liars=lie, **more))
    assert "sex" in robust["pool"]["sex"]["outside"]
    first = [one["findings"][0] for one in (robust, naive)]
    errors = [abs(row["estimate"] - row["truth"]) for row in first]
    assert errors[0] < errors[1]
    assert first[0]["low"] <= first[0]["truth"] <= first[0]["high"]


def test_small_and_unknown_groups_are_listed(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    rows = [f"{k},{'' if k % 10 == 9 else 'few' if k < 4 else 'ab'[k % 2]},1" for k in range(300)]
    table.write_text("who,group,said\n" + "\n".join(rows) + "\n")
    population = {
        "name": "table",
        "path": str(table),
        "id": "who",
        "attributes": {"group": None},
    }
    box = {"name": "table", "path": str(table), "decision": "said", "positive": 1, "id": "who"}
    path = ran(tmp_path, population=population, box=box, attributes=["group"], budget=100)
    rows_said = {row["group"]: row for row in read(path)["groups"]["group"]}
    assert rows_said["few"]["small"]
    assert rows_said[None]["population"] == 30
    assert read(path)["findings"][0]["estimate"] == 0
    ratio = next(row for row in read(path)["findings"] if row["metric"] == "impact_ratio")
    assert ratio["estimate"] == 1


def test_nobody_answered_favourably_is_undefined_and_not_fair(tmp_path: Path) -> None:
    population = {**MADE, "rate": 0.0, "effects": {}}
    found = read(ran(tmp_path, population=population))
    ratios = [row for row in found["findings"] if row["metric"] == "impact_ratio"]
    assert {row["verdict"] for row in ratios} == {"undefined"}
    assert np.isnan(ratios[0]["estimate"])
    gaps = [row for row in found["findings"] if row["metric"] == "demographic_parity"]
    assert {row["estimate"] for row in gaps} == {0.0}


@pytest.fixture
def platform() -> Iterator[Platform]:
    with serving(Platform(lambda row: 1 if row["sex"] == "men" else 0)) as one:
        yield one


def over_http(platform: Platform, tmp_path: Path, **box: Any) -> list[str]:
    """The command of an audit over HTTP in a process of its own."""
    file = tmp_path / "audit.yaml"
    where = {"name": "http", "url": platform.url, "queries_a_call": 4, **box}
    file.write_text(json.dumps({"verb": "audit", **settings(box=where, cross_check=0.1)}))
    command = "import sys; from hansa.cli import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", command, "audit", str(file), "--no-report", "--quiet", "--json"]


def killed(command: list[str], run: Path, platform: Platform, ready: Any) -> None:
    """Begin an audit, and kill it without mercy once the platform and the ledgers say so."""
    process = subprocess.Popen(
        [*command, "--out", str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=dict(os.environ),
    )  # fmt: skip
    try:
        assert platform.reached.wait(300), "the platform was never asked"
        while not ready():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()


def last_lines(run: Path) -> list[str]:
    return [
        json.loads(ledger.read_text().splitlines()[-1])["kind"]
        for ledger in sorted((run / "ledger").glob("*.jsonl"))
        if ledger.read_text().endswith("\n")
    ]


class Clock:
    """Time that passes only where somebody sleeps."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_an_audit_over_http_is_killed_and_resumed(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a pace, told to wait, killed in that wait, resumed: not one query twice, same findings."""
    whole = audit(
        settings(box={"name": "http", "url": platform.url, "queries_a_call": 4}, cross_check=0.1),
        tmp_path / "whole",
        report=False,
    )
    asked_once = sorted(member for _, member, _ in platform.served)
    for log in (platform.served, platform.calls, platform.answers):
        log.clear()
    platform.plan = ["serve"] * 15 + [429] * 3
    platform.headers = {"Retry-After": "500"}
    command = over_http(platform, tmp_path, queries_a_second=2000.0, burst=8)
    run = tmp_path / "killed"
    killed(command, run, platform, lambda: last_lines(run) == ["deferred"] * 3)
    assert 0 < len(platform.served) < 180
    assert not (run / "summary.json").exists()
    platform.plan = []
    clock = Clock()
    patient = partial(Asking, clock=lambda: clock.now, sleep=clock.sleep)
    monkeypatch.setattr("hansa.audit.run.Asking", patient)
    again = resume(run, report=False)
    assert clock.now > 300, "what is left of the wait is kept"
    members = [member for _, member, _ in platform.served]
    assert sorted(members) == asked_once, "the platform's log: the same queries, each once"
    assert len(platform.calls) == len(platform.answers) + 3, "three calls were put off, none lost"
    assert again.summary is not None
    assert whole.summary is not None
    assert again.summary["final"] == whole.summary["final"]
    assert read(run)["findings"] == read(tmp_path / "whole")["findings"]
    assert sum(one["again"] for one in read(run)["agents"]) == 0
    with pytest.raises(ConfigError, match="has finished"):
        resume(run)


def test_an_audit_killed_with_a_query_on_its_way(platform: Platform, tmp_path: Path) -> None:
    """Spent, and lost; or made again, if the platform is said to count a call's key once."""
    platform.plan = ["serve"] * 9 + ["hold"]
    run = tmp_path / "never"
    killed(over_http(platform, tmp_path), run, platform, lambda: "asking" in last_lines(run))
    platform.release.set()
    shutil.copytree(run, tmp_path / "free")
    before = list(platform.served), dict(platform.answers)
    for repeats, lost in (("never", 4), ("free", 0)):
        platform.served, platform.answers = list(before[0]), dict(before[1])
        path = tmp_path / repeats
        box = {**AuditFile.load(tmp_path / "audit.yaml").box.dump(), "repeats": repeats}
        again = resume(path, {"box": box}, report=False)
        found = read(path)
        spent = sum(one["spent"] for one in found["agents"])
        assert spent == 180 == len(platform.served), "spent is what the platform served"
        assert sum(one["lost"] for one in found["agents"]) == lost
        assert sum(one["again"] for one in found["agents"]) == (repeats == "free")
        assert all(len(set(rows)) == len(rows) for rows in rows_of(path).values())
        assert again.summary is not None
        assert again.summary["status"] == "finished"


def test_a_ledger_that_was_changed_or_cut_and_another_platform(tmp_path: Path) -> None:
    box = {"name": "disturbed", "of": "own"}
    path = ran(tmp_path, box=box)
    (path / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"box\.flip: is another than the audit was begun with"):
        resume(path, {"box": {**box, "flip": 0.1}}, report=False)
    with pytest.raises(ConfigError, match="cannot change when a run is resumed"):
        resume(path, {"seed": 2}, report=False)
    ledger = path / "ledger" / "01.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-7])
    before = read(path)["findings"]
    with pytest.warns(HansaWarning, match="01.jsonl was cut short and is in 01.cut"):
        resume(path, report=False)
    assert read(path)["findings"] == before
    (path / "summary.json").unlink()
    ledger.write_bytes(whole.replace(b'"answers":[', b'"answers":[1,', 1))
    with pytest.raises(CheckpointError, match=r"01\.jsonl: line \d does not follow"):
        resume(path, report=False)


def test_a_ledger_that_lacks_its_last_lines_is_refused(tmp_path: Path) -> None:
    """Cut at the end of a line the chain is whole; what the audit said at its end tells it."""
    box = {"name": "http", "url": "http://127.0.0.1:9/", "give_up": 0.0}
    with pytest.raises(RunError, match="cannot be reached"):
        ran(tmp_path, box=box)
    ledger = tmp_path / "run" / "ledger" / "00.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[: whole[:-1].rindex(b"\n") + 1])
    with pytest.raises(CheckpointError, match=r"00\.jsonl: lacks lines .* spent twice"):
        resume(tmp_path / "run", report=False)
    assert (tmp_path / "run" / "summary.json").exists(), "what is refused changes nothing"
    ledger.write_bytes(whole)
    with pytest.raises(RunError, match="cannot be reached"):
        resume(tmp_path / "run", report=False)


def test_the_same_seed_asks_the_same(tmp_path: Path) -> None:
    first, second, third = (ran(tmp_path, str(k), seed=seed) for k, seed in enumerate((1, 1, 2)))
    assert rows_of(first) == rows_of(second) != rows_of(third)
    assert read(first)["findings"] == read(second)["findings"]
