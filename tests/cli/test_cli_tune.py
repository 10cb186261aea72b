"""hansa tune: the step size of CHOCO, the cohorts of CPFL."""

from pathlib import Path

from hansa.learn.federated.suggest_cohorts import DISTANCE, EXAMPLES

QUICK = "--set nodes=8 --numbers 100 --rounds 40"


def test_the_best_gamma_and_all_that_were_tried(hansa) -> None:
    said = hansa(f"tune choco {QUICK} --json")
    assert said.status == 0, said.err
    found = {item["gamma"]: item["error"] for item in said.object["errors"]}
    assert len(found) == 16
    assert found[said.object["gamma"]] == min(e for e in found.values() if e is not None)
    assert said.err.count("gamma") == 16  # progress
    assert "algorithm.gamma=" in hansa(f"tune choco choco {QUICK}").out


def test_what_has_no_gamma_is_refused(hansa) -> None:
    said = hansa("tune choco dpsgd --json")
    assert said.status == 2
    assert said.object["error"]["field"] == "algorithm"
    said = hansa("tune choco --set topology.name=regular --set topology.dynamic=true --json")
    assert said.object["error"]["field"] == "algorithm"


def test_cohorts_and_what_they_cost(hansa) -> None:
    """Also for a run file that lacks what a merge needs."""
    Path("run.yaml").write_text("algorithm: cpfl\nnodes: 12\nclock: devices\n")
    said = hansa("tune cohorts run.yaml --json --draws 3")
    assert said.status == 0, said.err
    tried = said.object["tried"]
    assert [dial["cohorts"] for dial in tried] == [1, 2, 4, 8, 12]
    assert all(dial["slowest"] >= dial["mean"] > 0 for dial in tried)
    assert (said.object["distance"], said.object["examples"]) == (DISTANCE, EXAMPLES)
    chosen = said.object["cohorts"]
    table = hansa("tune cohorts run.yaml --draws 3")
    assert f"--set algorithm.cohorts={chosen}" in table.out
    assert table.out.count("suggested") == 1
    assert "not the paper's" in table.out
    strict = hansa("tune cohorts run.yaml --draws 3 --distance 0 --json")
    assert strict.object["cohorts"] == 1


def test_cohorts_without_a_clock_have_no_times(hansa) -> None:
    said = hansa(
        "tune cohorts --set clock=wall --set nodes=4 --set algorithm.cohorts.name=by_class"
    )
    assert said.status == 0, said.err
    assert "No times" in said.out
    said = hansa("tune cohorts --set clock=wall --set nodes=4 --json")
    assert said.object["tried"][0]["slowest"] is None


def test_what_has_no_cohorts_is_refused(hansa) -> None:
    said = hansa("tune cohorts dpsgd --json")
    assert said.status == 2
    assert said.object["error"]["field"] == "algorithm"
