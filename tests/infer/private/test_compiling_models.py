"""hansa's own models: which compile, and why the others do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hansa.base.component import catalogue, find
from hansa.base.errors import ConfigError
from hansa.base.spec import DataSpec
from hansa.infer.private.compiling.compiler import compile_network
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.models import Model

from .test_compiling_networks import settled

COMPILES: dict[str, tuple[tuple[int, ...], dict[str, object], int]] = {
    "logistic": ((1, 8, 8), {}, 1),
    "mlp": ((3, 6, 6), {"hidden": (16, 12)}, 3),
    "femnist_cnn": ((1, 8, 8), {}, 4),
    "celeba_cnn": ((3, 16, 16), {}, 5),
    "pfl_cnn": ((1, 8, 8), {}, 4),
    "resnet8_bn": ((3, 16, 16), {}, 8),
    "resnet20_bn": ((1, 8, 8), {}, 20),
}
"""Of each: shape of an example, settings, rounds."""
REFUSED: dict[str, tuple[tuple[int, ...], str, str]] = {
    "gn_lenet": ((1, 8, 8), "network.norm1", "BatchNorm2d"),
    "gn_lenet_cpfl": ((1, 15, 15), "network.norm1", "BatchNorm2d"),
    "convnet": ((1, 8, 8), "network.norm1", "BatchNorm2d"),
    "resnet8_gn": ((3, 8, 8), "network.norm", "BatchNorm2d"),
    "resnet20_gn": ((3, 8, 8), "network.norm", "BatchNorm2d"),
    "vit": ((1, 8, 8), "network.embeddings", "attention"),
}
OTHER_DATA = {"lstm", "matrix_factorization", "module", "neural_recommender", "transformers"}
"""They read ids, which are looked up, or are what they are told."""


def test_every_model_is_known_here() -> None:
    own = {name for name, cls in catalogue("model").items() if cls.__module__.startswith("hansa.")}
    assert set(COMPILES) | set(REFUSED) | OTHER_DATA == own


def network_of(name: str, shape: tuple[int, ...], arguments: dict[str, object]) -> torch.nn.Module:
    model = find("model", name).parse(arguments)
    assert isinstance(model, Model)
    torch.manual_seed(0)
    return settled(model.build(DataSpec("image", shape, 10)))


@pytest.mark.parametrize("name", COMPILES)
def test_a_model_compiles(name: str) -> None:
    shape, arguments, rounds = COMPILES[name]
    network = network_of(name, shape, arguments)
    rows = np.random.default_rng(0).normal(size=(48, *shape)).astype(np.float32)
    program = compile_network(network, rows, Bits(9, 9)).program
    assert len(program.rounds) == rounds
    with torch.no_grad():
        wanted = network(torch.from_numpy(rows)).double().numpy()
    made = evaluate(program, read_rows(program, rows)) * program.logits.scale
    assert np.abs(made - wanted).mean() < 0.05 * wanted.std()


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_is_refused_by_its_layer(name: str) -> None:
    shape, field, fix = REFUSED[name]
    rows = np.random.default_rng(0).normal(size=(8, *shape))
    with pytest.raises(ConfigError) as caught:
        compile_network(network_of(name, shape, {}), rows)
    assert caught.value.field.startswith(field), str(caught.value)
    assert fix in caught.value.fix, str(caught.value)
