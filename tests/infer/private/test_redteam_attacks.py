"""Every attack recovers in every mode what the pages say, on real ciphertexts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hansa.base.component import catalogue
from hansa.cli.app import app
from hansa.infer.private.compiling.program_file import write_program
from hansa.infer.private.redteam.attacks.extraction import MODES, ExtractionAttack
from hansa.infer.private.redteam.attacks.hidden_query import HiddenQuery
from hansa.infer.private.redteam.attacks.last_layer import LastLayer
from hansa.infer.private.redteam.oracle import Untried
from hansa.infer.private.redteam.redteam_file import USUAL
from hansa.infer.private.redteam.session_oracle import SessionOracle, program_of
from hansa.infer.private.redteam.targets import Target, made_target
from hansa.infer.private.redteam.trial import tried

QUICK = {
    "mask_leak": "conv_3",
    "residual_leak": "conv_3",
    "false_key": "conv_3",
    "one_query": "conv_16",
    "hidden_query": "conv_16",
    "last_layer": "last",
}


def attack_of(name: str) -> ExtractionAttack:
    made = catalogue("extraction")[name]()
    assert isinstance(made, ExtractionAttack)
    return made


@pytest.mark.parametrize(
    ("name", "layer", "mode"),
    [(name, layer, m) for name, layer in QUICK.items() for m in attack_of(name).modes],
)
def test_each_attack_comes_to_what_is_expected(name: str, layer: str, mode: str) -> None:
    row = tried(attack_of(name), mode, made_target(layer, 3), 3)
    assert row["as_expected"], row
    assert row["chance"] < 0.2


def test_one_input_recovers_all_weights_of_a_convolution_though_channels_are_shuffled() -> None:
    row = tried(attack_of("one_query"), "shuffle", made_target("conv_16", 1), 1)
    assert (row["right"], row["weights"]) == (2304, 2304)
    assert row["queries"] == 2  # a zero for the biases, and one


@pytest.mark.parametrize("bits", [56, 62, 64])
def test_a_hidden_query_reads_through_flooding_below_the_ceiling(bits: int) -> None:
    row = tried(HiddenQuery(flooding_bits=bits), "shuffle", made_target("conv_16", 1), 1)
    assert (row["right"], row["weights"]) == (144, 144)


def test_every_number_of_a_hidden_query_decrypts_to_the_bias() -> None:
    target = made_target("conv_16", 1)
    oracle = SessionOracle(target, "shuffle", seed=bytes(32))
    hidden = np.zeros(oracle.shape, np.int64)
    hidden[0, 5, 5] = 1
    room = oracle.step / 2 - 2.0**oracle.flooding_bits
    seen = oracle.ask(np.zeros(oracle.shape, np.int64), hidden, int(room / 128))
    assert sorted(seen.numbers[:, 0, 0]) == sorted(target.bias)
    assert (seen.numbers == seen.numbers[:, :1, :1]).all()


def test_logits_give_the_last_layer_away_in_mode_shares_too() -> None:
    row = tried(LastLayer(logits=True), "shares", made_target("last", 1), 1)
    assert row["mode"] == "shares, logits"
    assert row["recovered"] == 1.0


def test_a_client_of_shares_decrypts_uniform_numbers() -> None:
    target = made_target("conv_3", 1)
    oracle = SessionOracle(target, "shares", seed=bytes(32))
    half = 1 << (oracle.plain_bits - 1)
    numbers = oracle.ask(np.zeros(oracle.shape, np.int64)).numbers.ravel()
    counts = np.histogram(numbers, 16, (-half, half))[0]
    expected = len(numbers) / 16
    assert ((counts - expected) ** 2 / expected).sum() < 50  # 15 degrees of freedom, 1e-5


def test_honest_numbers_are_the_layer() -> None:
    target = made_target("conv_3", 2)
    oracle = SessionOracle(target, "shuffle", seed=bytes(32))
    image = np.random.default_rng(0).integers(0, 128, oracle.shape)
    from hansa.infer.private.integer_net import accumulate

    wanted = accumulate(target.block, {"input": image[None]})[0]
    got = oracle.ask(image).numbers
    assert sorted(map(bytes, got)) == sorted(map(bytes, wanted))


def test_another_session_shuffles_differently() -> None:
    target = made_target("matrix", 1)
    oracle = SessionOracle(target, "shuffle", seed=bytes(32))
    ones = np.ones(oracle.shape, np.int64)
    first = oracle.ask(ones).numbers
    second = oracle.another().ask(ones).numbers
    assert (first != second).any()
    assert sorted(first.ravel()) == sorted(second.ravel())


def test_same_seed_same_row() -> None:
    rows = [tried(attack_of("hidden_query"), "shuffle", made_target("conv_16", 5), 5) for _ in "ab"]
    assert rows[0]["right"] == rows[1]["right"]


def test_kinds_of_layers() -> None:
    kinds = {name: made_target(name, 0).kind for name in ("conv_3", "matrix", "last")}
    assert kinds == {"conv_3": "convolution", "matrix": "matrix", "last": "last"}
    assert isinstance(made_target("conv_3", 0), Target)


def test_the_usual_suite_names_every_attack() -> None:
    named = {one if isinstance(one, str) else one["name"] for one in USUAL}
    assert named == set(catalogue("extraction"))
    for name in named:
        assert set(attack_of(name).modes) <= set(MODES)


def test_the_command_prints_rows_and_leaves_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(
        app, ["infer", "redteam", "--attack", "mask_leak", "--mode", "shuffle", "--mode",
              "unprotected", "--set", "seed=4", "--json", "--quiet"],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    data = json.loads(told.stdout.splitlines()[-1])
    assert {(row["attack"], row["mode"]) for row in data["rows"]} == {
        ("mask_leak", "shuffle"), ("mask_leak", "unprotected"),
    }  # fmt: skip
    for row in data["rows"]:
        assert {"attack", "mode", "recovered", "chance", "expected"} <= set(row)
    page = (Path(data["run_dir"]) / "report.html").read_text()
    assert "2609.12911" in page
    assert data["final"]["as_expected"] == data["final"]["tried"] == 4


def test_layers_of_a_compiled_program_are_attacked(tmp_path: Path) -> None:
    path = write_program(tmp_path / "small", program_of(made_target("conv_3", 7)))
    told = CliRunner().invoke(
        app, ["infer", "redteam", str(path), "--attack", "one_query", "--attack", "mask_leak",
              "--mode", "unprotected", "--out", str(tmp_path / "run"), "--json", "--quiet",
              "--no-report"],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    rows = json.loads(told.stdout.splitlines()[-1])["rows"]
    found = {(row["attack"], row["layer"]): row["recovered"] for row in rows}
    assert found["one_query", "attacked"] == found["mask_leak", "attacked"] == 1.0
    assert ("one_query", "ending") not in found  # it is the last


def test_a_layer_of_too_many_unknowns_is_named_and_left() -> None:
    wide = made_target("matrix", 1)
    with pytest.raises(Untried):
        SessionOracle(wide, "unprotected", seed=bytes(32)).mask_equations()


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--attack", "no_such"], "attacks"),
        (["--mode", "no_such"], "modes"),
        (["--attack", "false_key", "--mode", "unprotected"], "attacks"),
        (["no_such.hansa"], ""),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    arguments: list[str], field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["infer", "redteam", *arguments, "--json", "--quiet"])
    assert told.exit_code == 2, told.output
    error = json.loads(told.stdout.splitlines()[-1])["error"]
    assert str(error.get("field", "")).startswith(field)
    assert not list(tmp_path.glob("runs/*"))
