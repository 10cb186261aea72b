"""hansa tune: the step size of CHOCO."""

QUICK = "--set nodes=8 --numbers 100 --rounds 40"


def test_the_best_gamma_and_all_that_were_tried(hansa) -> None:
    said = hansa(f"tune {QUICK} --json")
    assert said.status == 0, said.err
    found = {item["gamma"]: item["error"] for item in said.object["errors"]}
    assert len(found) == 16
    assert found[said.object["gamma"]] == min(e for e in found.values() if e is not None)
    assert said.err.count("gamma") == 16  # progress
    assert "algorithm.gamma=" in hansa(f"tune choco {QUICK}").out


def test_what_has_no_gamma_is_refused(hansa) -> None:
    said = hansa("tune dpsgd --json")
    assert said.status == 2
    assert said.object["error"]["field"] == "algorithm"
    said = hansa("tune --set topology.name=regular --set topology.dynamic=true --json")
    assert said.object["error"]["field"] == "algorithm"
