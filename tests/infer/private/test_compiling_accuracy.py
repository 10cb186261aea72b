"""What integers cost on handwritten digits, and what a program's file keeps and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from hansa.base.bundle import read_bundle, write_bundle
from hansa.base.errors import CheckpointError, ConfigError
from hansa.infer.private.client_steps import Relu, Shift
from hansa.infer.private.compiling.compiler import compile_network
from hansa.infer.private.compiling.program_file import check_program, read_program, write_program
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.program import Program


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images [1797, 1, 8, 8] from 0 to 1 and their classes, in an order of their own."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return (images[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels[order]


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 10),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )


def trained(module: nn.Module, x: np.ndarray, y: np.ndarray, epochs: int = 12) -> nn.Module:
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(epochs):
        for some in torch.randperm(len(rows)).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(module(rows[some]), labels[some]).backward()
            optimizer.step()
    return module.eval()


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    x, y = digits()
    return {kind.__name__: trained(kind(), x[:1000], y[:1000]) for kind in (mlp, lenet)}


def right(program: Program, x: np.ndarray, y: np.ndarray) -> float:
    return float((evaluate(program, read_rows(program, x)).argmax(1) == y).mean())


@pytest.mark.parametrize("name", ["mlp", "lenet"])
@pytest.mark.parametrize("bits", [(8, 7), (6, 5)])
def test_integers_lose_half_a_point_at_most(
    networks: dict[str, nn.Module], name: str, bits: tuple[int, int]
) -> None:
    x, y = digits()
    with torch.no_grad():
        plain = (networks[name](torch.from_numpy(x[1000:])).argmax(1).numpy() == y[1000:]).mean()
    program = compile_network(networks[name], x[:128], Bits(*bits)).program
    loss = plain - right(program, x[1000:], y[1000:])
    assert loss <= {8: 0.005, 6: 0.02}[bits[0]], (plain, loss)
    assert program.accumulator_bits <= {8: 20, 6: 16}[bits[0]]


def test_a_network_of_relus_needs_no_tables(networks: dict[str, nn.Module]) -> None:
    """Shifts by powers of two suffice, and weights fit their bits."""
    x, _ = digits()
    program = compile_network(networks["mlp"], x[:128]).program
    for one in program.rounds:
        for activation in one.activations:
            assert all(isinstance(step, Relu | Shift) for step in activation.steps)
        for block in one.blocks:
            largest = max(int(np.abs(term.weight).max()) for term in block.terms)
            assert 63 <= largest <= 127


def test_the_same_network_gives_the_same_program(networks: dict[str, nn.Module]) -> None:
    x, _ = digits()
    one, two = (compile_network(networks["lenet"], x[:64]).program for _ in range(2))
    for a, b in zip(one.rounds, two.rounds, strict=True):
        assert a.activations == b.activations
        for block, other in zip(a.blocks, b.blocks, strict=True):
            assert np.array_equal(block.bias, other.bias)


def test_integers_stay_within_what_is_promised(networks: dict[str, nn.Module]) -> None:
    """Whatever the rows are, noise of any size as well."""
    x, _ = digits()
    program = compile_network(networks["lenet"], x[:64]).program
    wild = np.random.default_rng(0).normal(size=(64, 1, 8, 8)) * 1e3
    values = {program.input.name: read_rows(program, wild)}
    from hansa.infer.private.client_steps import apply
    from hansa.infer.private.integer_net import accumulate

    for one in program.rounds:
        for block in one.blocks:
            sums = accumulate(block, values)
            assert block.low <= sums.min()
            assert sums.max() <= block.high
            for activation in one.activations:
                if activation.block == block.name and activation.steps:
                    made = apply(activation.steps, sums)
                    values[activation.makes] = made
                    value = program.values[activation.makes]
                    assert made.shape[1:] == value.shape
                    assert value.low <= made.min()
                    assert made.max() <= value.high


@pytest.fixture
def file(networks: dict[str, nn.Module], tmp_path: Path) -> Path:
    x, _ = digits()
    program = compile_network(networks["mlp"], x[:64], classes=tuple("0123456789")).program
    return write_program(tmp_path / "net", program)


def test_a_file_keeps_a_program(networks: dict[str, nn.Module], tmp_path: Path) -> None:
    x, _ = digits()
    for name, network in networks.items():
        program = compile_network(network, x[:64], classes=tuple("0123456789")).program
        file = write_program(tmp_path / name, program)
        back = read_program(file)
        rows = read_rows(program, x[:50])
        assert np.array_equal(evaluate(back, read_rows(back, x[:50])), evaluate(program, rows))
        assert back.classes == program.classes
        assert back.facts == json.loads(json.dumps(program.facts))
        assert [r.uploads for r in back.rounds] == [r.uploads for r in program.rounds]
        again = write_program(tmp_path / f"{name}2", back)
        assert again.read_bytes() == file.read_bytes()


def changed(file: Path, **facts: object) -> Path:
    stem = file.with_name(file.name.removesuffix(".safetensors"))
    old, tensors = read_bundle(stem)
    write_bundle(stem, old | facts, tensors)
    return file


def test_another_version_is_refused(file: Path) -> None:
    with pytest.raises(CheckpointError, match="version 9"):
        read_program(changed(file, version=9))
    with pytest.raises(CheckpointError, match="no program of private inference"):
        read_program(changed(file, kind="other"))


def test_a_damaged_file_is_refused(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[-3] ^= 1
    file.write_bytes(whole)
    with pytest.raises(CheckpointError, match="corrupt"):
        read_program(file)
    file.write_bytes(whole[:100])
    with pytest.raises(CheckpointError, match="corrupt"):
        read_program(file)
    with pytest.raises(CheckpointError, match="missing"):
        read_program(file.with_name("other"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["values"][0].update(shape=[1, 8, 9]), "fit"),
        (lambda f: f["rounds"][0]["blocks"][0].update(shape=[3, 1, 1]), "biases"),
        (lambda f: f["rounds"][0]["blocks"][0].update(high=5), "bounds"),
        (lambda f: f["rounds"][1].update(uploads=["v9"]), "before it is made"),
        (lambda f: f["rounds"][0]["activations"][0].update(makes="input"), "made twice"),
        (lambda f: f["rounds"][0]["activations"][0]["steps"].pop(), "clipped"),
        (lambda f: f["rounds"][0]["blocks"][0]["terms"][0].update(stride=[0, 1]), "weights"),
        (lambda f: f["rounds"][0]["blocks"][0].update(scale=float("nan")), "scale"),
        (lambda f: f["values"][1].update(high=3), "larger than it says"),
        (lambda f: f["rounds"].pop(), "0 blocks are logits"),
        (lambda f: f["rounds"][0].pop("blocks"), "no program"),
    ],
)
def test_a_file_that_is_no_program_is_refused(file: Path, change: object, words: str) -> None:
    stem = file.with_name(file.name.removesuffix(".safetensors"))
    facts, tensors = read_bundle(stem)
    assert callable(change)
    change(facts)
    write_bundle(stem, facts, tensors)
    with pytest.raises(CheckpointError, match=words):
        read_program(file)


def test_weights_of_another_shape_are_refused(file: Path) -> None:
    stem = file.with_name(file.name.removesuffix(".safetensors"))
    facts, tensors = read_bundle(stem)
    tensors["round0.block0.term0"] = tensors["round0.block0.term0"][:, :, :, :7].clone()
    write_bundle(stem, facts, tensors)
    with pytest.raises(CheckpointError, match="block 1: weights"):
        read_program(file)


def test_a_program_made_by_hand_is_checked() -> None:
    x, _ = digits()
    with pytest.raises(ConfigError, match="2 to 12"):
        Bits(weights=13)
    with pytest.raises(ConfigError, match="not finite"):
        compile_network(mlp(), np.full((4, 1, 8, 8), np.nan))
    with pytest.raises(ConfigError, match="fails on examples"):
        compile_network(mlp(), np.zeros((4, 1, 7, 8)))
    check_program(compile_network(mlp(), x[:16]).program)
