"""``hansa route run``, ``train`` and ``index`` from end to end, on a world made in seconds."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from hansa.base.errors import CheckpointError, ConfigError
from hansa.cli import main
from hansa.report import RunFolder
from hansa.report.page import final
from hansa.report.writing import write_report
from hansa.route.answering import Query
from hansa.route.pool_scorer import PoolScorer
from hansa.route.route_file import RouteFile
from hansa.route.routing_index import RoutingIndex
from hansa.route.run import resume, route
from hansa.route.sources.task_folder import read_tasks, write_task

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny_route.yaml"
TINY = {
    "tasks": {
        "name": "templates", "domains": 3, "tasks_per_domain": 2, "validation": 12, "test": 20,
        "train": 800, "base_steps": 80, "adapter_steps": 90, "lr": 0.01, "hidden": 48, "layers": 1,
        "foreign": 20,
    },
    "association": {"name": "successive_halving", "budget": 2},
    "fit_queries": 4,
    "methods": [
        "oracle", "lorauter", {"name": "lorauter", "alpha": 0.1}, "no_validation", "uniform",
        "fusion", "lora_retriever", "arrow", "spectr", "single_best", "average", "base",
        {"name": "clusters", "clusters": 6}, {"name": "lorahub", "steps": 2},
    ],
    "noise": {"adapters": 6, "factor": 0.1},
    "peers": {"count": 5, "liars": 2, "aggregators": ["mean", "median"]},
}  # fmt: skip
TASKS, EXAMPLES = 6, 12


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(words)
    streams = capsys.readouterr()
    return status, streams.out, streams.err


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A whole run."""
    return route(TINY, tmp_path_factory.mktemp("route") / "run")


def test_the_table_has_a_row_for_each_regime_and_method(run_folder: RunFolder) -> None:
    summary = run_folder.summary or {}
    assert (summary["verb"], summary["status"], summary["adapters"]) == ("route", "finished", 6)
    table = summary["final"]["table"]
    at = {(row["regime"], row["method"]): row for row in table}
    methods = list(RouteFile.parse(TINY).named())
    regimes = ["id", "semi", "ood", "hard"]
    assert list(at) == [(p + r, m) for p in ("", "noisy_") for r in regimes for m in methods]
    for row in table:
        assert 0 <= row["raw"] <= 1
        assert row["score"] is None or row["score"] >= 0
        assert (row["score"] == 1) == (row["method"] == "oracle") or row["score"] is None or (
            row["method"] != "oracle")  # fmt: skip
    assert at["id", "base"]["raw"] == at["ood", "base"]["raw"]
    assert at["id", "average"]["touched"] == 6
    assert at["ood", "average"]["touched"] == 5
    assert at["noisy_id", "average"]["touched"] == 12
    for pool in summary["final"]["pools"]:
        cost = pool["association"]
        assert 0 < cost["answers"] < cost["exhaustive"]
        assert set(pool["abstention"]["curve"][0]) == {"alpha", "answered", "score", "foreign"}
    (peers,) = summary["final"]["peers"]
    assert [(row["aggregator"], row["liars"]) for row in peers["rows"]] == [
        ("mean", 0), ("median", 0), ("mean", 2), ("median", 2)]  # fmt: skip
    assert peers["bytes_each"] < 60_000


def test_the_order_is_that_of_the_paper(run_folder: RunFolder) -> None:
    table = (run_folder.summary or {})["final"]["table"]
    at = {(row["regime"], row["method"]): row["score"] for row in table}
    ladder = [at["id", m] for m in ("lorauter", "uniform", "fusion", "average")]
    assert ladder == sorted(ladder, reverse=True)
    assert min(a - b for a, b in pairwise(ladder)) > 0.1
    assert abs(at["id", "average"] - at["id", "base"]) < 0.25
    assert at["id", "lorauter"] > at["semi", "lorauter"] >= at["ood", "lorauter"]
    assert at["ood", "lorauter"] > at["ood", "uniform"] + 0.2
    assert at["noisy_id", "lorauter"] > 1 >= at["noisy_id", "no_validation"] - 0.02
    clean = (run_folder.summary or {})["final"]["pools"][0]
    assert clean["retrieval"]["top1"] >= 0.95
    assert clean["abstention"]["auroc"] > 0.9


def test_the_page_shows_it(run_folder: RunFolder) -> None:
    page = (run_folder.path / "report.html").read_text(encoding="utf-8")
    for text in ("6 adapters on one model, 6 tasks", "Percent of the oracle", "Peers"):
        assert text in page
    assert len(final(run_folder, every=True).rows) == len(run_folder.summary["final"]["table"])  # type: ignore[index]


@pytest.mark.slow  # the toy verb is interrupted and goes on by the same code
def test_an_interrupted_run_goes_on_and_ends_the_same(
    run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hansa.route import pools

    evaluated, count = pools.evaluated, 0

    def interrupted(*given):  # type: ignore[no-untyped-def]
        nonlocal count
        count += 1
        if count == 40:
            raise KeyboardInterrupt
        return evaluated(*given)

    place = tmp_path / "run"
    monkeypatch.setattr(pools, "evaluated", interrupted)
    with pytest.raises(KeyboardInterrupt):
        route(TINY, place, report=False)
    monkeypatch.setattr(pools, "evaluated", evaluated)
    trained = {p.name: p.stat().st_mtime_ns for p in (place / "worlds/1/pool").iterdir()}
    scores = (place / "scores/1.jsonl").read_bytes()
    again = resume(place, report=False)
    assert again.summary["status"] == "finished"  # type: ignore[index]
    assert {p.name: p.stat().st_mtime_ns for p in (place / "worlds/1/pool").iterdir()} == trained
    assert (place / "scores/1.jsonl").read_bytes().startswith(scores)
    assert again.read_json("table.json") == run_folder.read_json("table.json")
    assert (place / "index/index.safetensors").stat().st_size > 0
    with pytest.raises(ConfigError, match="has finished"):
        resume(place)


def test_the_index_of_a_run_routes_and_moves_with_it(run_folder: RunFolder, tmp_path: Path) -> None:
    index = RoutingIndex.open(run_folder.path)
    queries = [e.query for e in RouteFile.parse(TINY).tasks.tasks_of(1)[2].test]  # type: ignore[attr-defined]
    routed = index.route(queries)
    assert all(index.tasks[one.tasks[0]].name == "d1t0" for one in routed)
    moved = tmp_path / "elsewhere"
    shutil.copytree(run_folder.path, moved)
    again = RoutingIndex.open(moved)
    assert again.pool == moved / "worlds/1/pool"
    assert again.route(queries) == routed
    assert index.route([Query("nobody says this")])[0].abstained
    file = moved / "index" / "index.safetensors"
    file.write_bytes(file.read_bytes().replace(b"tfidf", b"tfidx", 1))
    with pytest.raises(CheckpointError, match="not what was saved"):
        RoutingIndex.open(moved)


def written_tasks(folder: Path) -> list[str]:
    """The tiny world's tasks as one would write one's own, without training texts."""
    tasks = RouteFile.parse(TINY).tasks.tasks_of(1)  # type: ignore[attr-defined]
    for task in tasks:
        write_task(folder, task)
    assert [read_tasks(folder)[k] for k in range(TASKS)] == tasks
    return [task.name for task in tasks]


def test_own_tasks_are_trained_indexed_and_brought_up_to_date(
    run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    world = run_folder.path / "worlds/1"
    tasks, pool, out = tmp_path / "tasks", tmp_path / "pool", tmp_path / "index"
    names = written_tasks(tasks)
    shutil.copytree(world / "pool", pool)
    lines = (tasks / names[0] / "test.jsonl").read_text().splitlines()
    queries = [Query(json.loads(line)["text"]) for line in lines]
    base = ("--base", str(world / "base"))
    words = ("route", "index", str(pool), "--tasks", str(tasks), "--out", str(out), "--max-tokens",
             "4", "--json", "-q")  # fmt: skip
    status, told, _ = said(capsys, *words, *base)
    first = json.loads(told)
    assert (status, first["answers"], first["embedded"]) == (
        0, TASKS * TASKS * EXAMPLES, TASKS,
    )  # fmt: skip
    assert {row["task"] for row in first["tasks"]} == set(names)
    before = RoutingIndex.open(out).route(queries)

    # Nothing new costs nothing, and routes the same; the base is the index's.
    status, told, _ = said(capsys, *words)
    assert (json.loads(told)["answers"], json.loads(told)["embedded"]) == (0, 0)
    assert RoutingIndex.open(out).route(queries) == before

    # One adapter more costs its own column, one task less nothing; taken back, all is as it was.
    shutil.copytree(pool / names[1], pool / "another")
    _, told, _ = said(capsys, *words)
    assert json.loads(told)["answers"] == 0  # the same factors: the same scores
    shutil.rmtree(pool / "another")
    row = json.dumps({"text": "form000 word0a1 word0a2 answer", "answer": "label0a"})
    (tasks / "late").mkdir()
    (tasks / "late/validation.jsonl").write_text(row)
    (tasks / "late/train.jsonl").write_text(row.replace("word0a1", "word0a3"))
    status, told, err = said(capsys, "route", "train", str(tasks), *base, "--out", str(pool),
                             "--steps", "2", "--json", "-q")  # fmt: skip
    assert (status, json.loads(told)["trained"]) == (0, ["late"]), err
    _, told, _ = said(capsys, *words)
    assert (json.loads(told)["answers"], json.loads(told)["embedded"]) == (
        TASKS * EXAMPLES + TASKS + 1, 1,
    )  # fmt: skip
    shutil.rmtree(tasks / "late")
    shutil.rmtree(pool / "late")
    _, told, _ = said(capsys, *words)
    assert json.loads(told)["answers"] == 0
    assert [(r.tasks, r.mixture) for r in RoutingIndex.open(out).route(queries)] == [
        (r.tasks, r.mixture) for r in before
    ]


def test_files_of_ones_own_run_from_the_command_line(
    run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = run_folder.path / "worlds/1"
    written_tasks(tmp_path / "tasks")
    settings = {
        "verb": "route",
        "tasks": {"name": "files", "folder": "tasks", "base": str(world / "base"),
                  "pool": str(world / "pool")},
        "methods": ["lorauter"], "regimes": ["id"], "noise": None, "encoder": "hashing",
        "screen": {}, "association": "exhaustive", "k": 9,
    }  # fmt: skip
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(settings))
    status, told, err = said(capsys, "route", "run", str(file), "--out", str(tmp_path / "run"),
                             "--json", "-q")  # fmt: skip
    assert status == 0, err
    rows = json.loads(told)["final"]["table"]
    assert [row["method"] for row in rows] == ["oracle", "lorauter"]
    theirs = {(r["regime"], r["method"]): r for r in run_folder.summary["final"]["table"]}  # type: ignore[index]
    assert rows[0]["raw"] == theirs["id", "oracle"]["raw"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"peers": {"count": 4, "liars": 2}}, r"peers\.liars.*is half or more"),
        ({"peers": {"encoder": "tfidf"}}, r"peers\.encoder.*do not leave them"),
        ({"methods": ["lorauter", "lorauter"]}, "is there twice"),
        ({"tasks": {"name": "templates", "hidden": 20}}, "no multiple of 8"),
        ({"encoder": {"name": "sentence_transformer", "model": "x/y"}}, "nothing is downloaded"),
        ({"regimes": ["id", "id"]}, "holds one twice"),
        ({"tasks": {"name": "files", "folder": "x", "base": "x", "pool": "x"}}, r"tasks\.base"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    tmp_path: Path, change: dict, problem: str
) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=f"(?s){problem}"):
        route({**TINY, **change}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pool_of_another_base_and_pickled_weights_are_refused(
    run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hansa.route.index_folder import Indexing, make_index

    monkeypatch.setattr(PoolScorer, "_measure", None)  # nothing may be asked
    world = run_folder.path / "worlds/1"
    written_tasks(tmp_path / "tasks")
    pool = tmp_path / "pool"
    shutil.copytree(world / "pool", pool)
    config = pool / "d0t0" / "adapter_config.json"
    from safetensors.numpy import load_file, save_file

    file = pool / "d0t0" / "adapter_model.safetensors"
    right = load_file(file)
    save_file({k: np.zeros((*v.shape[:-1], v.shape[-1] + 1), v.dtype) if "lora_A" in k else v
               for k, v in right.items()}, file)  # fmt: skip
    given = (pool, tmp_path / "tasks", world / "base", tmp_path / "out", Indexing())
    with pytest.raises(ConfigError, match=r"(?s)d0t0.*base"):
        make_index(*given)
    file.rename(file.with_name("adapter_model.bin"))
    with pytest.raises(ConfigError, match="is pickled"):
        make_index(*given)
    assert config.exists()
    shutil.rmtree(tmp_path / "pool/d0t0")
    (tmp_path / "tasks/d0t0/validation.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"(?s)tasks\.d0t0.*no validation set"):
        make_index(*given)
    assert not (tmp_path / "out").exists()


def test_the_example_says_what_the_manual_shows() -> None:
    chosen = RouteFile.load(EXAMPLE)
    assert chosen.noise is not None
    assert chosen.peers is not None
    assert {"lorauter", "uniform", "fusion", "average", "base", "oracle"} <= set(chosen.named())


def test_a_page_can_be_written_of_a_run_that_has_measured_little(
    run_folder: RunFolder, tmp_path: Path
) -> None:
    shutil.copytree(run_folder.path, tmp_path / "run")
    for place in (tmp_path / "run/measured").glob("*noisy*"):
        place.unlink()
    clean = tmp_path / "run/measured/1-clean.json"
    facts = json.loads(clean.read_text())
    clean.write_text(json.dumps({k: facts[k] for k in ("seed", "pool", "rows", "adapters")}))
    write_report(RunFolder.open(tmp_path / "run"))
