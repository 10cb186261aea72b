"""What scripts read of a run's ``--json``: names, verb by verb, that may only become more."""

from __future__ import annotations

import pytest

EVERY = {"run_dir", "status", "verb", "final"}
TRAINED = EVERY | {
    "algorithm", "bytes_sent", "device_seconds", "energy_joules", "faults", "modelled_seconds",
    "nodes", "overhead_bytes", "rounds", "saved", "seconds",
}  # fmt: skip
RUNS = {
    "learn dpsgd --nodes 5 --rounds 1": TRAINED,
    "audit made_audit --set population.rows=400": EVERY
    | {"agents", "bytes_sent", "heads", "seconds", "spent", "strategy"},
}
LONGER = {
    "combine ensemble digits_ensemble --set local.epochs=1 --set aggregate.rounds=1 "
    "--set rules=average": EVERY - {"final"}
    | {"accuracy", "baselines", "bytes_sent", "chosen", "clients", "phases", "rules", "seconds"},
    "recommend synthetic_rex --set rounds=2": TRAINED
    | {"baselines", "duplicates", "holders_mean"},
    "infer robust digits_robust --set clients.local.epochs=1 --set attacks=logit_flip "
    "--set aggregators=mean": EVERY
    | {"alone", "class_names", "classes", "f", "kept", "members", "notes", "seeds",
       "server_examples", "test_examples", "why"},
}  # fmt: skip


@pytest.mark.parametrize("line", RUNS)
def test_a_run_says_what_scripts_read(hansa, line: str) -> None:
    said = hansa(f"{line} --json --no-report")
    assert said.status == 0, said.err
    assert RUNS[line] <= said.object.keys()


@pytest.mark.slow
@pytest.mark.parametrize("line", LONGER)
def test_a_longer_run_says_what_scripts_read(hansa, line: str) -> None:
    said = hansa(f"{line} --json --no-report")
    assert said.status == 0, said.err
    assert LONGER[line] <= said.object.keys()
