"""Files that somebody changed, and public reports of wrong convolutions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hansa.base.bundle import read_bundle, write_bundle
from hansa.base.errors import CheckpointError, ConfigError, HansaWarning
from hansa.infer.private.compiling.building import build_of
from hansa.infer.private.compiling.compiler import compile_network
from hansa.infer.private.compiling.program_file import read_program, write_program
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.compiling.sources import Source
from hansa.infer.private.integer_net import evaluate, read_rows


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 3, 3, 2, 1), nn.Sigmoid(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 5),
        nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip
    rows = np.random.default_rng(0).normal(size=(16, 1, 8, 8))
    program = compile_network(layers, rows, Bits(5, 4)).program
    return write_program(tmp_path_factory.mktemp("programs") / "net", program)


def places(facts: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every part of some JSON, but what is for people alone."""
    out = [path] if path else []
    if isinstance(facts, dict):
        for key, value in facts.items():
            out += [] if key == "facts" else places(value, (*path, key))
    elif isinstance(facts, list):
        for key, value in enumerate(facts[:6]):
            out += places(value, (*path, key))
    return out


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from((1 << 40, -(1 << 70), 2.5, "x")),
    st.floats(), st.lists(st.integers(-2, 1 << 33), max_size=4),
    st.dictionaries(st.text(), st.none()),
)  # fmt: skip


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_changed_file_is_refused_or_runs(file: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Never another error, and what is read can be run."""
    stem = file.with_name(file.name.removesuffix(".safetensors"))
    facts, tensors = read_bundle(stem)
    facts = copy.deepcopy(facts)
    path = data.draw(st.sampled_from(places(facts)))
    inner = facts
    for key in path[:-1]:
        inner = inner[key]
    if data.draw(st.booleans()) or not isinstance(inner, dict):
        inner[path[-1]] = data.draw(ODD)
    else:
        del inner[path[-1]]
    changed = tmp_path / "changed"
    write_bundle(changed, facts, tensors)
    try:
        program = read_program(changed)
    except CheckpointError:
        return
    rows = np.zeros((2, *program.input_shape))
    assert evaluate(program, read_rows(program, rows)).shape[0] == 2


def convolved(image: Any, kernel: Any, stride: int, padding: int) -> np.ndarray:
    """A convolution of one channel as integers compute it, from its first output on."""
    weight, rows = np.asarray(kernel, np.float64), np.asarray(image, np.float64)
    layer = nn.Conv2d(1, 1, tuple(weight.shape), stride, padding, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight)[None, None])
    examples = np.random.default_rng(0).uniform(-8, 8, (64, 1, *rows.shape))
    program = compile_network(layer, examples, Bits(12, 12)).program
    made = evaluate(program, read_rows(program, rows[None, None])) * program.logits.scale
    shape = program.logits.shape[1:]
    return made.reshape(shape)


def test_kernels_are_neither_rotated_nor_transposed() -> None:
    """A strided, padded convolution by hand, and kernels that only sides tell apart (TenSEAL#353).

    heir#2422: a 3 x 3 image under a 2 x 2 kernel; OpenCheetah#26: off by one at the border.
    """
    image = [[2, 1, 2], [5, 0, 1], [1, 7, 3]]
    kernel = [[0.5, 0.7, 0.4], [0.3, 0.4, 0.1], [0.5, 1, 0.5]]
    made = convolved(image, kernel, 2, 1)
    padded = np.pad(np.asarray(image, np.float64), 1)
    wanted = [
        [(padded[2 * r : 2 * r + 3, 2 * c : 2 * c + 3] * kernel).sum() for c in range(2)]
        for r in range(2)
    ]
    assert np.abs(made - wanted).max() < 0.02
    for shape in ((1, 3), (3, 1), (2, 3), (2, 2)):
        kernel = np.arange(1.0, 1 + shape[0] * shape[1]).reshape(shape)
        made = convolved(image, kernel, 1, 0)
        high, wide = 4 - shape[0], 4 - shape[1]
        by_hand = [
            [
                (np.asarray(image)[r : r + shape[0], c : c + shape[1]] * kernel).sum()
                for c in range(wide)
            ]
            for r in range(high)
        ]
        assert np.abs(made - by_hand).max() < 0.1, shape


def test_a_network_with_a_number_that_is_none_is_refused_by_its_tensor() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        network[2].weight[0, 1] = float("nan")
    with pytest.raises(ConfigError, match=r"network\.2.weight.*not finite"):
        compile_network(network, np.ones((8, 4)))


def test_a_bias_beyond_all_weights_is_refused_by_its_layer() -> None:
    """It would take more than 64 bits beside them."""
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        for one in network.parameters():
            one.mul_(1e-25)
    rows = np.random.default_rng(0).normal(size=(64, 4))
    with pytest.raises(ConfigError, match=r"network\.2: adds a bias"):
        compile_network(network, rows)


def test_a_comparison_is_a_function_like_any_other() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last((self.first(x) > 0).float())

    torch.manual_seed(0)
    network, rows = Steps(), np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    program = compile_network(network, rows).program
    made = evaluate(program, read_rows(program, rows)) * program.logits.scale
    with torch.no_grad():
        real = network(torch.from_numpy(rows)).numpy()
    assert np.corrcoef(made.ravel(), real.ravel())[0, 1] > 0.95


def test_integers_that_are_far_from_their_network_are_warned_of() -> None:
    """What has no labels has no accuracy, so that nobody would see it."""

    class Poles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 64), nn.Linear(64, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(1 / self.first(x))

    torch.manual_seed(0)
    rows = np.random.default_rng(0).normal(size=(250, 4)).astype(np.float32)
    with pytest.warns(HansaWarning, match="the integers differ from the network by"):
        build_of(Source("poles", Poles(), rows), Bits())
    plain = build_of(Source("linear", nn.Linear(4, 2), rows), Bits())
    assert 0 < plain.program.facts["rounding_error"] < 0.05
