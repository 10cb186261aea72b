"""``hansa infer robust`` and ``predict`` from end to end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hansa.base.errors import CheckpointError, ConfigError, DataError, OwnCodeError
from hansa.cli import main
from hansa.infer.robust import robust_charts
from hansa.infer.robust.page import simpler
from hansa.infer.robust.robust_file import RobustFile
from hansa.infer.robust.rule_answers import predict
from hansa.infer.robust.rule_store import load_aggregator
from hansa.infer.robust.run import resume, robust
from hansa.report import RunFolder
from hansa.report.writing import write_report

from .answer_files import QUICK, write_scores
from .conftest import answers

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits_robust.yaml"


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(words)
    streams = capsys.readouterr()
    return status, streams.out, streams.err


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A whole run of five digits clients over two seeds."""
    settings = {
        "seed": 3,
        "repeats": 2,
        "clients": {
            "name": "trained",
            "members": 5,
            "data": {"name": "digits", "train_samples": 500, "test_samples": 60},
            "models": [{"name": "mlp", "hidden": [16]}, "logistic"],
            "local": {"epochs": 8, "optimizer": {"name": "adam", "lr": 0.01}},
            "server": 0.3,
        },
        "f": 1,
        "aggregators": [
            "mean",
            "trimmed_mean",
            "majority_vote",
            {"name": "deep_set", "pooling": "trimmed_mean", "hidden": 16, "masks": 30, "lr": 0.01},
            {"name": "deep_set", "hidden": 16, "masks": 30, "lr": 0.01},
        ],
        "attacks": ["logit_flip", "sia_whitebox", "cpa", {"name": "pgd_cw", "steps": 3}, "kvote"],
        "metrics": ["calibration_error"],
    }
    return robust(settings, tmp_path_factory.mktemp("infer") / "run")


def test_the_table_has_its_rows_and_its_order(run_folder: RunFolder) -> None:
    summary = run_folder.summary or {}
    assert (summary["verb"], summary["status"], summary["seeds"]) == ("infer", "finished", [3, 4])
    table = summary["final"]["table"]
    at = {(r["aggregator"], r["attack"], r["identity"], r["f"]): r for r in table}
    names = [rule["aggregator"] for rule in summary["final"]["rules"]]
    assert names == ["mean", "trimmed_mean", "majority_vote", "deep_set kvote + trimmed_mean",
                     "deep_set kvote"]  # fmt: skip
    for name in names:
        honest = at[name, "none", "fixed", 0]["accuracy"]
        fixed, worst = at[name, "worst", "fixed", 1], at[name, "worst", "worst", 1]
        each = at[name, "worst_per_query", "fixed", 1]
        certified = at[name, "any", "certified", 1]["accuracy"]
        assert 0 <= certified <= each["accuracy"] <= fixed["accuracy"] <= 1
        assert worst["accuracy"] <= fixed["accuracy"]
        assert honest > 0.2
        assert fixed["low"] <= fixed["accuracy"] <= fixed["high"]
        assert fixed["seeds"] == 2
        assert {f for n, a, i, f in at if (n, a, i) == (name, "kvote", "fixed")} == {0, 1, 2}
    # Of a mean and of votes, certified and the worst liars' K-vote are one figure.
    for name in ("mean", "majority_vote"):
        kvote = at[name, "kvote", "worst", 1]["accuracy"]
        assert at[name, "any", "certified", 1]["accuracy"] == pytest.approx(kvote)
    rule = summary["final"]["rules"][3]
    assert rule["train_seconds"] > 0
    assert 0 <= rule["calibration_error"] <= 1
    assert summary["kept"] in names


def test_one_training_serves_two_poolings(run_folder: RunFolder) -> None:
    assert len(list((run_folder.path / "learned").glob("*.safetensors"))) == 2  # one a seed


def test_the_same_file_gives_the_same_table(run_folder: RunFolder, tmp_path: Path) -> None:
    settings = {**run_folder.config, "repeats": 1}
    again = robust(settings, tmp_path / "again", report=False)
    first = [one for one in run_folder.read_json("table.json")["each"] if one["seed"] == 3]
    second = again.read_json("table.json")["each"]
    assert [one["rows"] for one in first] == [one["rows"] for one in second]


def test_an_interrupted_run_goes_on_and_ends_the_same(
    run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hansa.infer.robust import run as module

    measured, measure = [], module.measure

    def interrupted(rule, test, suite):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(rule.name)
        return measure(rule, test, suite)

    monkeypatch.setattr(module, "measure", interrupted)
    settings = {**run_folder.config, "repeats": 1}
    with pytest.raises(KeyboardInterrupt):
        robust(settings, tmp_path / "run", report=False)
    cut = RunFolder.open(tmp_path / "run")
    assert (cut.summary or {})["status"] == "interrupted"
    assert len((cut.summary or {})["final"]["rules"]) == 3  # what was measured is told
    write_report(cut)
    again: list[str] = []
    monkeypatch.setattr(module, "measure", lambda r, t, s: again.append(r.name) or measure(r, t, s))
    whole = resume(tmp_path / "run", report=False)
    assert len(again) == 2
    first = [one for one in run_folder.read_json("table.json")["each"] if one["seed"] == 3]
    second = whole.read_json("table.json")["each"]
    assert [one["rows"] for one in first] == [one["rows"] for one in second]
    with pytest.raises(ConfigError, match="has finished"):
        resume(tmp_path / "run")


def test_the_page_says_it_all(run_folder: RunFolder) -> None:
    page = (run_folder.path / "report.html").read_text()
    for words in (
        "Answers of 5 clients, of whom 1 may lie",
        "Accuracy against the number of liars",
        "Margin and certificate",
        "What an answer costs",
        "deep_set kvote + trimmed_mean",
    ):
        assert words in page, words


def test_a_rule_that_learns_nothing_and_does_as_well_is_named() -> None:
    def line(name: str, fixed: float, certified: float | None, learning: float) -> dict:
        return {
            "aggregator": name, "fixed": fixed, "certified": certified, "train_seconds": learning,
        }  # fmt: skip

    learned, other = line("learned", 0.6, 0.2, 3.0), line("other", 0.9, 0.9, 3.0)
    rules = [learned, line("mean", 0.6, 0.1, 0.0), line("krum", 0.5, None, 0.0), other]
    assert simpler(rules, learned, "fixed") == ["mean (60.00 %)"]
    assert simpler(rules, learned, "certified") == []
    assert simpler(rules, rules[1], "fixed") == []


def test_pictures_are_of_the_form_that_vega_lite_asks_for(run_folder: RunFolder) -> None:
    final = (run_folder.summary or {})["final"]
    each = (run_folder.read_json("table.json") or {})["each"]
    drawn = [
        robust_charts.budget_chart(final["table"]),
        *robust_charts.heat_maps(final["table"]),
        robust_charts.margin_chart(each, "mean"),
        robust_charts.cost_chart(final["rules"]),
    ]
    for chart in drawn:
        chart.to_dict()  # validates
    assert robust_charts.margin_chart(each, "nobody") is None


def test_a_saved_rule_answers_as_it_did(run_folder: RunFolder) -> None:
    rows = answers(20, 5, 10)[0]
    for name in ("mean", "majority_vote", "deep_set kvote + trimmed_mean", "deep_set kvote"):
        rule = load_aggregator(run_folder.path, name)
        assert rule.name == name
        assert rule.learned == name.startswith("deep_set")
        assert rule.scores(rows).shape == (20, 10)
        assert rule.certified(rows, 1).dtype == torch.bool
    kept = load_aggregator(run_folder.path)
    assert kept.name == (run_folder.summary or {})["kept"]
    with pytest.raises(ConfigError, match="not a rule of this run"):
        load_aggregator(run_folder.path, "krum")


def test_a_rule_by_import_path_is_not_loaded_without_trust(
    run_folder: RunFolder, tmp_path: Path
) -> None:
    from hansa.base.bundle import read_bundle, write_bundle

    copied = tmp_path / "run"
    shutil.copytree(run_folder.path, copied)
    facts, tensors = read_bundle(copied / "aggregators" / "rule_00")
    facts["entry"] = {"name": "somebody.else:Rule"}
    write_bundle(copied / "aggregators" / "rule_00", facts, tensors)
    with pytest.raises(ConfigError, match="runs its code"):
        load_aggregator(copied, "mean")
    (copied / "aggregators" / "rule_01.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"rule_01.*begin a new run"):
        load_aggregator(copied, "trimmed_mean")


def test_predict_answers_probabilities_and_inputs(run_folder: RunFolder, tmp_path: Path) -> None:
    rows, labels = answers(30, 5, 10, 4)
    np.save(tmp_path / "rows.npy", rows.numpy())
    found = predict(run_folder.path, tmp_path / "rows.npy", "trimmed_mean")
    assert len(found) == 30
    rule = load_aggregator(run_folder.path, "trimmed_mean")
    assert [one["f_star"] for one in found] == rule.largest_f(rows).tolist()
    assert all(one["certified"] == (one["f_star"] >= 1) for one in found)
    hits = sum(
        one["class"] == str(label) for one, label in zip(found, labels.tolist(), strict=True)
    )
    assert hits > 20
    strict = predict(run_folder.path, tmp_path / "rows.npy", "trimmed_mean", margin=0.5)
    assert all(one["abstains"] == (one["margin"] <= 0.5) for one in strict)
    assert any(one["class"] is None for one in strict)
    with pytest.raises(ConfigError, match="half or more"):
        predict(run_folder.path, tmp_path / "rows.npy", f=3)
    images = np.load(Path(robust.__code__.co_filename).parents[2] / "data/sources/digits.npz")
    np.save(tmp_path / "images.npy", images["images"][:40])
    found = predict(run_folder.path, tmp_path / "images.npy", "mean")
    truth = images["targets"][:40].tolist()
    assert sum(one["class"] == str(y) for one, y in zip(found, truth, strict=True)) > 25
    np.save(tmp_path / "odd.npy", np.zeros((3, 7)))
    with pytest.raises(DataError, match="the models take"):
        predict(run_folder.path, tmp_path / "odd.npy")


def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HANSA_DATA", raising=False)
    quick = ["clients.local.epochs=2", "attacks=[lma,kvote]", "aggregators=[mean,trimmed_mean]"]
    sets = [word for one in quick for word in ("--set", one)]
    status, out, err = said(capsys, "infer", "robust", str(EXAMPLE), *sets, "--json")
    assert status == 0, err
    answer = json.loads(out)
    assert {"run_dir", "verb", "status", "final", "kept", "why"} <= set(answer)
    keys = {"aggregator", "attack", "identity", "f", "accuracy"}
    assert all(keys <= set(row) for row in answer["final"]["table"])
    assert {row["identity"] for row in answer["final"]["table"]} == {"fixed", "worst", "certified"}
    run = answer["run_dir"]
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = said(capsys, "report", run)
    assert status == 0
    status, out, err = said(capsys, "infer", "robust", "--resume", run)
    assert status == 2
    assert "has finished" in err
    np.save(tmp_path / "rows.npy", answers(3, 17, 10)[0].numpy())
    status, out, _ = said(capsys, "infer", "predict", run, "rows.npy")
    assert status == 0
    assert "certified" in out
    assert max(map(len, out.splitlines())) <= 80
    status, out, _ = said(capsys, "infer", "predict", run, "rows.npy", "-f", "0", "--json")
    assert len(json.loads(out)["predictions"]) == 3


def test_the_example_is_as_the_documents_say() -> None:
    chosen = RobustFile.load(EXAMPLE)
    assert chosen.clients.count() == 17
    assert list(chosen.rules())[-1] == "deep_set kvote + trimmed_mean"
    # The file's f is that of all parts that do not say theirs, within others too.
    settings = {**yaml.safe_load(EXAMPLE.read_text()), "f": 3}
    rules = RobustFile.parse(settings).rules()
    assert rules["trimmed_mean"].f == 3
    assert (rules["nnm + trimmed_mean"].f, rules["nnm + trimmed_mean"].then.f) == (3, 3)
    assert rules["deep_set kvote + trimmed_mean"].pooling.f == 3


def test_settings_are_refused_before_torch_is_imported() -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from hansa.infer.robust.robust_file import RobustFile; "
        f"chosen = RobustFile.load(Path({str(EXAMPLE)!r})); "
        "chosen.check(17); chosen.clients.check(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_entries_alike_are_told_apart_and_twice_the_same_is_refused() -> None:
    twice = {"aggregators": [{"name": "trimmed_mean", "f": 2}, {"name": "trimmed_mean", "f": 4}]}
    assert list(RobustFile.parse(twice).rules()) == ["trimmed_mean (f=2)", "trimmed_mean (f=4)"]
    with pytest.raises(ConfigError, match="twice"):
        RobustFile.parse({"aggregators": ["mean", "mean"]}).rules()
    more = {"attacks": ["sia_whitebox", {"name": "sia_whitebox", "off_simplex": True}]}
    assert list(RobustFile.parse(more).suite()) == [
        "sia_whitebox", "sia_whitebox (off_simplex=True)"]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"f": 3}, "half or more"),
        ({"f": 2, "aggregators": [{"name": "trimmed_mean", "f": 3}]}, "needs 7 rows"),
        ({"aggregators": [{"name": "deep_set", "pooling": {"name": "krum", "f": 4}}]}, "needs"),
        ({"aggregators": ["no_such_rule"]}, "no such aggregator"),
        ({"attacks": ["no_such_attack"]}, "no such inference_attack"),
        ({"budgets": [4]}, "half or more"),
        ({"keep": "krum"}, "not among the aggregators"),
        ({"clients": {"name": "scores", "path": "nowhere.npz"}}, "no such file"),
        ({"clients": {"name": "ensemble", "path": "nowhere"}}, "holds no ensemble"),
        ({"clients": {"name": "scores", "path": "a.csv"}}, "no known kind"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_begins(
    changes: dict, words: str, tmp_path: Path
) -> None:
    settings = {**QUICK, "clients": {"name": "trained", "members": 5}, **changes}
    with pytest.raises(ConfigError, match=words):
        robust(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


OWN = """
import torch
from hansa import register
from hansa.ensemble.aggregators import Buffered
from hansa.infer.robust.attacks.liars import InferenceAttack


@register("own_zeros")
class Zeros(InferenceAttack):
    \"\"\"All on the first class.\"\"\"
    greedy: bool = False

    def forge(self, probabilities, scene):
        if self.greedy:
            return probabilities * 0
        lie = torch.zeros(len(probabilities), probabilities.shape[2])
        lie[:, 0] = 1
        return scene.send(probabilities, lie)


@register("own_nearest")
class Nearest(Buffered):
    \"\"\"The row nearest to all others.\"\"\"
    broken: bool = False

    def combine(self, rows, weights):
        if self.broken:
            raise ValueError("this one is broken")
        return rows[torch.cdist(rows, rows).sum(1).argmin()]
"""


def test_parts_of_ones_own_are_used_and_their_errors_are_theirs(tmp_path: Path) -> None:
    (tmp_path / "own_parts.py").write_text(OWN)
    path = write_scores(tmp_path / "a.npz")
    settings = {
        **QUICK,
        "plugins": [str(tmp_path / "own_parts.py")],
        "clients": {"name": "scores", "path": str(path)},
        "aggregators": ["mean", "own_nearest"],
        "attacks": ["own_zeros"],
    }
    folder = robust(settings, tmp_path / "run", report=False)
    rows = {(r["aggregator"], r["attack"]) for r in (folder.summary or {})["final"]["table"]}
    assert ("own_nearest", "own_zeros") in rows
    assert load_aggregator(folder.path, "own_nearest").scores(answers(4, 5, 3)[0]).shape == (4, 3)
    wrong = {**settings, "attacks": [{"name": "own_zeros", "greedy": True}]}
    with pytest.raises(OwnCodeError, match="changed rows of clients who do not lie"):
        robust(wrong, tmp_path / "greedy", report=False)
    wrong = {**settings, "aggregators": [{"name": "own_nearest", "broken": True}]}
    with pytest.raises(OwnCodeError, match=r"own_parts.py, line \d+, in combine.*broken"):
        robust(wrong, tmp_path / "broken", report=False)
