"""Every model: its size, its output, its refusals, and whether it stacks."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.models import Model, ParameterLayout, initial_model

CIFAR = DataSpec("image", (3, 32, 32), 10)
DIGITS = DataSpec("image", (1, 8, 8), 10)
TABLE = DataSpec("table", (5,), 1, "regression")
TEXT = DataSpec("tokens", (80,), 92, vocabulary=(92,))
SHORT = DataSpec("tokens", (6,), 11, vocabulary=(11,))
RATINGS = DataSpec("pairs", (2,), 1, "regression", (610, 9724))

COUNTS = [
    ("gn_lenet", CIFAR, 89_834),
    ("gn_lenet_cpfl", CIFAR, 85_354),
    ("femnist_cnn", DataSpec("image", (1, 28, 28), 62), 1_690_046),
    ("celeba_cnn", DataSpec("image", (3, 84, 84), 2), 30_242),
    ("convnet", CIFAR, 320_010),
    ("convnet", DataSpec("image", (1, 28, 28), 10), 317_706),
    ("pfl_cnn", CIFAR, 1_626_442),
    ("lstm", TEXT, 2_683_708),
    ("matrix_factorization", RATINGS, 206_680 + 610 + 9724 + 1),
    ({"name": "matrix_factorization", "mean": "none"}, RATINGS, 206_680 + 610 + 9724),
    ("neural_recommender", RATINGS, 215_001),
    # 3x3 convolutions without bias, two numbers a channel in each normalization, 65 a class.
    ("resnet8_gn", CIFAR, 75_290),
    ("resnet20_gn", CIFAR, 269_722),
    ("vit", DIGITS, 26_432 + 33 * 10),
    ("logistic", CIFAR, 3072 * 10 + 10),
    ({"name": "mlp", "hidden": [7, 4]}, TABLE, 6 * 7 + 8 * 4 + 5),
    ({"name": "mlp", "hidden": []}, TABLE, 6),
]

SMALL = [
    ("logistic", DIGITS),
    ("mlp", TABLE),
    ("gn_lenet", DIGITS),
    ("gn_lenet_cpfl", DataSpec("image", (2, 17, 16), 3)),
    ("femnist_cnn", DIGITS),
    ("celeba_cnn", DataSpec("image", (3, 20, 17), 2)),
    ({"name": "convnet", "depth": 2, "width": 4}, DIGITS),
    ("pfl_cnn", DataSpec("image", (2, 7, 6), 3)),
    ("resnet8_gn", DIGITS),
    ("resnet20_gn", DIGITS),
    ("resnet20_bn", DIGITS),
    ("resnet8_bn", DataSpec("image", (2, 17, 16), 3)),
    ({"name": "lstm", "hidden": 8}, SHORT),
    ("vit", DIGITS),
    ({"name": "vit", "layers": 1, "patch": 3}, DataSpec("image", (2, 6, 9), 3)),
    ("matrix_factorization", DataSpec("pairs", (2,), 1, "regression", (7, 9))),
    ("neural_recommender", DataSpec("pairs", (2,), 1, "regression", (7, 9))),
]


def model(settings) -> Model:
    return Model.resolve(settings)


def make(settings, spec, seed=0) -> nn.Module:
    return initial_model(model(settings), spec, Streams(seed))


def batch(spec, *lead, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if spec.kind in ("tokens", "pairs"):
        highest = min(spec.vocabulary)
        return torch.randint(highest, (*lead, *spec.shape), generator=generator)
    return torch.randn(*lead, *spec.shape, generator=generator)


def refusal(settings, spec) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        make(settings, spec)
    assert caught.value.fix
    return caught.value


def test_catalogue_is_covered():
    covered = {model(settings).name for settings, _ in SMALL} | {
        "module",
        "transformers",
    }  # these have tests of their own
    ours = {n for n, c in catalogue("model").items() if c.__module__.startswith("hansa.")}
    assert covered == ours


@pytest.mark.parametrize(("settings", "spec", "count"), COUNTS)
def test_parameter_counts(settings, spec, count):
    network = make(settings, spec)
    layout = ParameterLayout.of(network)
    filling = getattr(network, "filling", torch.empty(0)).numel()  # to whole groups of numbers
    assert layout.size - filling == layout.trainable == count


@pytest.mark.parametrize(("settings", "spec"), SMALL)
def test_output_shape_and_gradients(settings, spec):
    network = make(settings, spec)
    out = network(batch(spec, 3))
    assert out.shape == (3, spec.outputs)
    out.square().sum().backward()
    assert all(
        parameter.grad is not None for parameter in network.parameters() if parameter.requires_grad
    )


@pytest.mark.parametrize(("settings", "spec"), [s for s in SMALL if s[1].kind == "image"])
def test_channels_last_gives_the_same(settings, spec):
    network = make(settings, spec).eval()
    x = batch(spec, 3)
    expected = network(x)
    last = network.to(memory_format=torch.channels_last)
    assert torch.allclose(last(x.to(memory_format=torch.channels_last)), expected, atol=1e-5)


@pytest.mark.parametrize(("settings", "spec"), SMALL)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_stackable_models_train_under_vmap(settings, spec):
    network = make(settings, spec)
    layout = ParameterLayout.of(network)
    rows = torch.stack([layout.flatten(make(settings, spec, seed)) for seed in range(3)])
    x = batch(spec, 3, 4)

    def loss(parameters, inputs):
        return functional_call(network, parameters, (inputs,)).square().mean()

    if not model(settings).stackable:
        with pytest.raises(RuntimeError, match=r"[Bb]atching rule|random|captured"):  # noqa: PT012
            vmap(loss)(layout.views(rows), x)
            vmap(grad(loss))(layout.views(rows), x)
        return
    stacked = vmap(grad(loss))(layout.views(rows), x)
    for k in range(3):
        alone = grad(loss)(layout.views(rows[k]), x[k])
        for name, gradient in alone.items():
            assert torch.allclose(stacked[name][k], gradient, atol=1e-5)


@pytest.mark.parametrize(("settings", "spec"), SMALL)
def test_initial_model_depends_on_the_seed_alone(settings, spec):
    layout = ParameterLayout.of(make(settings, spec))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = layout.flatten(make(settings, spec, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(layout.flatten(make(settings, spec, seed=1)), first)
    assert not torch.equal(layout.flatten(make(settings, spec, seed=2)), first)


def test_layers_stand_in_the_order_of_the_references():
    order = [type(layer).__name__ for layer in make("gn_lenet", CIFAR)]
    assert order == ["Conv2d", "GroupNorm", "ReLU", "MaxPool2d"] * 3 + ["Flatten", "Linear"]
    order = [type(layer).__name__ for layer in make("celeba_cnn", CIFAR)]
    assert order == ["Conv2d", "MaxPool2d", "ReLU"] * 4 + ["Flatten", "Linear"]
    layers = make("pfl_cnn", CIFAR)
    order = [type(layer).__name__ for layer in layers]
    assert order == (
        ["Conv2d", "ReLU"] * 2
        + ["MaxPool2d", "Dropout", "Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    )
    assert [layers.drop1.p, layers.drop2.p] == [0.25, 0.5]
    # Uniform within Glorot's bound, sqrt(6 / (inputs + outputs)).
    assert 0.99 < layers.fc.weight.abs().max() / (6 / (64 * 14 * 14 + 128)) ** 0.5 <= 1


@pytest.mark.parametrize("name", ["logistic", "mlp", "gn_lenet", "resnet8_gn", "lstm"])
def test_data_of_another_kind_are_refused(name):
    spec = RATINGS
    error = refusal(name, spec)
    assert error.field == ""
    assert error.value == name
    assert "not pairs" in error.problem
    assert error.fix == "model: matrix_factorization"


@pytest.mark.parametrize(
    ("settings", "spec", "field", "problem", "fix"),
    [
        ("gn_lenet", DataSpec("image", (1, 7, 9), 2), "", "7 x 9", "8 x 8"),
        ("gn_lenet_cpfl", DataSpec("image", (1, 14, 16), 2), "", "14 x 16", "15 x 15"),
        ("celeba_cnn", DIGITS, "", "4 times", "16 x 16"),
        ("pfl_cnn", DataSpec("image", (1, 5, 9), 2), "", "5 x 9", "6 x 6"),
        ("matrix_factorization", CIFAR, "", "not image", "gn_lenet"),
        ("matrix_factorization", DataSpec("pairs", (2,), 1), "", "users and items", "vocabulary"),
        ("neural_recommender", CIFAR, "", "not image", "gn_lenet"),
        ("lstm", DataSpec("tokens", (5,), 3), "", "one vocabulary", "vocabulary"),
        ({"name": "vit", "patch": 3}, DIGITS, "patch", "8 x 8", "divisor"),
        ({"name": "vit", "heads": 5}, DIGITS, "heads", "32 hidden", "divisor"),
        ({"name": "resnet8_gn", "groups": 3}, CIFAR, "groups", "16 channels", "1, 2, 4"),
        ({"name": "mlp", "hidden": [0]}, TABLE, "hidden.0", "greater than", "widths"),
        ({"name": "mlp", "width": 3}, TABLE, "width", "no such setting", "hidden"),
    ],
)
def test_refusals_name_field_and_fix(settings, spec, field, problem, fix):
    error = refusal(settings, spec)
    assert error.field == field
    assert problem in error.problem
    assert fix in error.fix


class Tower(nn.Module):
    """A stranger's network, with a part that it keeps in evaluation mode."""

    def __init__(self, inputs: int = 5, outputs: int = 1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(inputs).eval()
        self.out = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.out(self.norm(x))


def tower_here(**arguments):
    return {"name": "module", "path": f"{__file__}:Tower", "arguments": arguments}


def test_a_strangers_module_is_built_and_left_as_it_was():
    network = make(tower_here(), TABLE)
    assert network.out.in_features == 5
    assert network.training
    assert not network.norm.training
    assert network.norm.num_batches_tracked == 0
    linear = {"name": "module", "path": "torch.nn:LazyLinear", "arguments": {"out_features": 1}}
    assert ParameterLayout.of(make(linear, TABLE)).size == 6
    built = model(linear)
    assert Model.resolve(built.dump()) == built


@pytest.mark.parametrize(
    ("settings", "field", "problem"),
    [
        ({"name": "module", "path": "torch.nn:Liner"}, "path", "no 'Liner'"),
        ({"name": "module", "path": "nowhere.at.all:X"}, "path", "cannot be imported"),
        ({"name": "module", "path": "builtins:dict"}, "path", "gives a dict"),
        ({"name": "module", "path": "torch.nn:Linear"}, "arguments", "do not fit"),
        (tower_here(inputs=4), "path", "fails on a batch [2, 5]"),
        (tower_here(outputs=3), "path", "to [2, 3], not to [2, 1]"),
        ({"name": "module"}, "path", "required"),
    ],
)
def test_a_strangers_module_that_does_not_fit_is_refused(settings, field, problem):
    error = refusal(settings, TABLE)
    assert error.field == field
    assert problem in error.problem
