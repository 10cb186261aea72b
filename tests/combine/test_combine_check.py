"""``hansa check`` of an ensemble, and files that went to the wrong verb."""

import json
from pathlib import Path

import pytest
import yaml

from hansa.base.errors import ConfigError
from hansa.cli import main
from hansa.combine.ensemble import prepare
from hansa.combine.ensemble.cost import ensemble as formula
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.combine.ensemble.plan import plan
from hansa.experiment import RunFile
from hansa.experiment.settings_file import kind_of

from .conftest import QUICK, quick, ran

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_plan_is_what_a_run_comes_to(tmp_path: Path) -> None:
    changes = {"rules": ["average", "per_class"], "quantize": "int8"}
    found = plan(prepare(quick(**changes)))
    prepared, result = ran(tmp_path, **changes)
    assert found["clients"] == len(result.members)
    assert found["model_bytes"] == result.members[0].upload
    assert found["ensemble_bytes"] == sum(member.download for member in result.members)
    rows = {row["name"]: row for row in result.table}
    for rule in found["rules"]:
        assert rule["bytes"] == rows[rule["name"]]["formula"]
        assert rule["parameters"] == rows[rule["name"]]["parameters"]
    size = result.members[0].upload
    assert found["rules"][1]["bytes"] == formula(size, 4, 40, 20)
    assert found["proxies_in_all"] == sum(map(len, prepared.division.proxy))
    assert found["memory_bytes_at_least"] > prepared.dataset.train.inputs.nbytes


def test_the_plan_tells_forms_apart() -> None:
    predictors = [{"path": "sklearn.naive_bayes:GaussianNB", "arguments": {"priors": None}}]
    found = plan(prepare(quick(models=["mlp", "logistic"], predictors=predictors, clients=5)))
    told = [(model["form"], model["clients"]) for model in found["models"]]
    assert told == [("mlp", 2), ("logistic", 2), ("sklearn.naive_bayes:GaussianNB", 1)]
    assert found["models"][2]["bytes"] is None


def test_check_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(EXAMPLES / "digits_ensemble.yaml")]) == 0
    out = capsys.readouterr().out
    for words in ("per_class", "phase 2", "proxies", "This run can start", "combine ensemble"):
        assert words in out
    line = ["check", str(EXAMPLES / "digits_ensemble.yaml"), "--set", "clients=4", "--json"]
    assert main(line) == 0
    assert json.loads(capsys.readouterr().out)["clients"] == 4
    assert main(["check", str(EXAMPLES / "digits_ensemble.yaml"), "--set", "proxy=0.001"]) == 2
    assert not list(tmp_path.iterdir())


def test_a_file_says_whose_it_is() -> None:
    assert kind_of({}) is RunFile
    assert kind_of({"seed": 3, "data": "digits"}) is RunFile
    assert kind_of({"clients": 3}) is EnsembleFile
    assert kind_of({"nodes": 3, "clients": 4}) is RunFile  # a run file with a slip
    assert kind_of({"verb": "combine"}) is EnsembleFile
    assert kind_of(EnsembleFile.parse(QUICK).dump()) is EnsembleFile
    assert kind_of(RunFile.parse({}).dump()) is RunFile
    with pytest.raises(ConfigError, match="no such files"):
        kind_of({"verb": "teach"})


@pytest.mark.parametrize(
    ("line", "settings", "command"),
    [
        ("learn", {"clients": 4}, "hansa combine ensemble"),
        ("learn", {"verb": "combine"}, "hansa combine ensemble"),
        ("combine ensemble", {"nodes": 4, "rounds": 3}, "hansa learn"),
        ("combine ensemble", {"verb": "learn", "seed": 3}, "hansa learn"),
    ],
)
def test_the_wrong_verb_names_the_right_one(
    line: str,
    settings: dict,
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(settings))
    assert main([*line.split(), "file.yaml"]) == 2
    assert f"fix: {command} FILE" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]


def test_a_part_may_stand_for_a_list_of_one() -> None:
    found = EnsembleFile.parse({"models": {"name": "mlp"}, "rules": "average"})
    assert [len(found.models), len(found.rules)] == [1, 1]
    assert EnsembleFile.parse(found.dump()) == found


def test_remarks_on_the_data_reach_check_run_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{k},{k % 7},{-k % 5},{k % 2}\n" for k in range(80)]
    (tmp_path / "t.csv").write_text("id,a,b,label\n" + "".join(rows))
    settings = {
        "clients": 2,
        "data": {"name": "file", "path": "t.csv"},
        "models": "logistic",
        "rules": "average",
        "local": {"epochs": 1},
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(settings))
    assert main(["check", "e.yaml"]) == 0
    assert "remark: " in (out := capsys.readouterr().out)
    assert "'id' counts the rows" in out
    assert main(["check", "e.yaml", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["remarks"]) == 1
    assert main(["combine", "ensemble", "e.yaml", "--out", "run", "--quiet"]) == 0
    assert "'id' counts the rows" in capsys.readouterr().err
    assert "counts the rows" in (tmp_path / "run" / "report.html").read_text()
