"""What torch modules become, held against the modules themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from hansa.base.errors import ConfigError
from hansa.infer.private.compiling.compiler import compile_network
from hansa.infer.private.compiling.program_file import check_program
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.compiling.tracing import read_network
from hansa.infer.private.integer_net import evaluate, read_rows


def settled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of a seed, whoever drew before, and batch norms as after training."""
    torch.manual_seed(seed)
    for part in module.modules():
        if callable(reset := getattr(part, "reset_parameters", None)):
            reset()
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2)
            if part.affine:
                nn.init.uniform_(part.weight, -1.5, 1.5)
                nn.init.uniform_(part.bias, -0.5, 0.5)
    return module.eval()


def compiled(module: nn.Module, *shape: int, bits: Bits | None = None, rows: int = 64):
    """The program, and how far its logits are off the module's, by their deviation."""
    settled(module)
    x = torch.randn(rows, *shape)
    made = compile_network(module, x.numpy(), bits or Bits(10, 10))
    check_program(made.program)
    with torch.no_grad():
        wanted = module(x).reshape(rows, -1).double().numpy()
    whole = evaluate(made.program, read_rows(made.program, x.numpy()))
    logits = whole * made.program.logits.scale
    if made.ending:  # left to the reader
        named = {"log_softmax": lambda z: z.log_softmax(1), "sigmoid": torch.sigmoid}
        logits = named[made.ending](torch.from_numpy(logits)).numpy()
    return made, float(np.abs(logits - wanted).mean() / wanted.std())


class Residual(nn.Module):
    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.short: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.short = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.short(x))


class Plain(nn.Module):
    """A shortcut without weights: every second pixel, new channels of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        short = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return torch.relu(self.conv(x) + short).mean((2, 3))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([x, functional.relu(self.first(x))], 1)
        z = torch.cat([y, functional.relu(self.second(y))], dim=1)
        return functional.adaptive_avg_pool2d(z, 1).flatten(1)


class Gated(nn.Module):
    """Arithmetic on one number, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)
        self.shift = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        y = 2 * self.first(x) + self.shift - 0.5
        y = y * torch.sigmoid(1.7 * y)
        return -self.second(torch.where(y > 1, y, 0.5 * y + 0.5)) / 2


class Viewed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3, stride=2), nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.max_pool2d(functional.relu(self.conv(x.view(-1, 1, 8, 8))), 1)
        return functional.log_softmax(self.out(y.view(y.size(0), -1)), dim=1)


class Own(nn.Module):
    """Asks what its input is, and is a function of one number all the same."""

    def forward(self, x: Tensor) -> Tensor:
        return x if bool((x > 1e9).all()) else x.clamp(-1, 2).square()


def sequence(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


conv, norm, relu, flat, linear = nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Flatten, nn.Linear
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "logistic": (sequence(flat(), linear(12, 3)), (3, 2, 2)),
    "mlp": (sequence(linear(6, 8), relu(), linear(8, 4), relu(), linear(4, 3)), (6,)),
    "norm after linear": (
        sequence(linear(6, 8, bias=False), nn.BatchNorm1d(8), relu(), linear(8, 3)), (6,)),
    "norm before linear": (sequence(nn.BatchNorm1d(6), linear(6, 3)), (6,)),
    "norm of a flat map": (sequence(flat(), nn.BatchNorm1d(12), linear(12, 3)), (3, 2, 2)),
    "lenet": (
        sequence(conv(1, 6, 5, padding=2), relu(), nn.MaxPool2d(2), conv(6, 8, 5), relu(),
                 nn.AvgPool2d(2), flat(), linear(32, 20), nn.Dropout(), relu(), linear(20, 3)),
        (1, 16, 16)),
    "stride, dilation, groups": (
        sequence(conv(4, 8, 3, 2, 1, groups=2), norm(8), relu(),
                 conv(8, 8, (3, 2), 1, (2, 1), dilation=(2, 1), groups=8), norm(8), relu(),
                 nn.AdaptiveAvgPool2d((1, 1)), flat(), linear(8, 3)), (4, 9, 7)),
    "same": (sequence(conv(2, 4, 4, padding="same", dilation=1), relu(), flat()), (2, 5, 5)),
    "norm before conv": (sequence(norm(3), conv(3, 4, 3), relu(), flat()), (3, 6, 6)),
    "norm before a conv that pads": (
        sequence(conv(2, 3, 1), relu(), norm(3), conv(3, 4, 3, padding=1), relu(), flat()),
        (2, 5, 5)),
    "conv after conv": (
        sequence(conv(2, 4, 3, 2, 1, dilation=2), conv(4, 3, 2, 1, dilation=2), relu(), flat()),
        (2, 11, 12)),
    "conv after conv that pads": (
        sequence(conv(2, 3, 3), conv(3, 3, 3, padding=1), relu(), flat()), (2, 6, 6)),
    "linear after linear": (sequence(linear(6, 4), linear(4, 5), nn.Tanh(), linear(5, 3)), (6,)),
    "residual": (
        sequence(conv(3, 4, 3, 1, 1), norm(4), relu(), Residual(4, 4), Residual(4, 8, 2),
                 nn.AdaptiveAvgPool2d(1), flat(), linear(8, 3)), (3, 8, 8)),
    "plain shortcut": (Plain, (4, 8, 8)),
    "dense": (Dense, (3, 6, 6)),
    "gated": (Gated, (6,)),
    "viewed": (lambda: Viewed(), (64,)),
    "own function": (sequence(linear(5, 6), Own(), linear(6, 3)), (5,)),
    "functions": (
        sequence(linear(6, 8), nn.GELU(), linear(8, 8), nn.SiLU(), linear(8, 8), nn.LeakyReLU(0.1),
                 linear(8, 8), nn.Hardswish(), linear(8, 8), nn.ELU(), linear(8, 8), nn.ReLU6(),
                 linear(8, 8), nn.Sigmoid(), linear(8, 8), nn.Softplus(), linear(8, 3)), (6,)),
    "functions and pools": (
        sequence(conv(1, 3, 3), nn.Sigmoid(), nn.AvgPool2d(2), conv(3, 4, 2), nn.MaxPool2d(2, 1, 1),
                 nn.GELU(), nn.MaxPool2d(2), conv(4, 4, 1), nn.AvgPool2d(2, 1, 1), nn.Tanh(),
                 nn.AvgPool2d(2, 1), conv(4, 4, 1), nn.ReLU6(), nn.AvgPool2d(2), flat()),
        (1, 15, 15)),
    "one dimension": (
        sequence(nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), relu(), nn.MaxPool1d(2),
                 nn.Conv1d(4, 4, 2, 2), relu(), nn.AdaptiveAvgPool1d(1), flat(), linear(4, 3)),
        (2, 12)),
    "all convolutions": (
        sequence(conv(3, 4, 3), relu(), conv(4, 3, 1), nn.AdaptiveAvgPool2d(1), flat()), (3, 6, 6)),
    "ends in relu": (sequence(linear(5, 4), relu()), (5,)),
    "one slope": (sequence(linear(5, 4), nn.PReLU(), linear(4, 2), nn.Sigmoid()), (5,)),
    "zeros around": (
        sequence(nn.ZeroPad2d((1, 0, 2, 1)), conv(2, 3, 3), relu(), flat()), (2, 5, 5)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_compiles_to_what_it_computes(name: str) -> None:
    maker, shape = NETWORKS[name]
    torch.manual_seed(1)
    made, off = compiled(maker(), *shape)
    assert off < 0.03, off
    assert made.program.facts["layers"]


def test_layers_that_follow_each_other_are_one_round() -> None:
    for name, rounds in (
        ("norm after linear", 2), ("norm of a flat map", 1), ("conv after conv", 2),
        ("conv after conv that pads", 3), ("norm before conv", 2), ("residual", 6),
        ("norm before a conv that pads", 4),
    ):  # fmt: skip
        maker, shape = NETWORKS[name]
        assert len(compiled(maker(), *shape)[0].program.rounds) == rounds, name


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, str]] = {
    "group norm": (sequence(conv(2, 4, 3), nn.GroupNorm(2, 4)), (2, 5, 5), "network.1", "across"),
    "layer norm": (sequence(linear(4, 4), nn.LayerNorm(4)), (4,), "network.1", "BatchNorm"),
    "circular": (
        sequence(conv(2, 4, 3, padding=1, padding_mode="circular")), (2, 5, 5), "network.0",
        "padding_mode='zeros'"),
    "reflect": (
        sequence(conv(2, 4, 3, padding=1, padding_mode="reflect")), (2, 5, 5), "network.0",
        "reflect"),
    "pad not counted": (
        sequence(conv(2, 4, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False)), (2, 5, 5),
        "network.1", "count_include_pad"),
    "windows that differ": (sequence(nn.AdaptiveAvgPool2d(2)), (2, 5, 5), "network.0", "divisor"),
    "slopes": (sequence(linear(4, 4), nn.PReLU(4)), (4,), "network.1", "slope"),
    "softmax within": (
        sequence(linear(4, 4), nn.Softmax(1), linear(4, 2)), (4,), "network.2", "at once"),
    "ceil": (sequence(nn.MaxPool2d(2, ceil_mode=True)), (2, 5, 5), "network.0", "ceil_mode"),
    "no statistics": (
        sequence(conv(2, 2, 1), norm(2, track_running_stats=False)), (2, 4, 4), "network.1",
        "running"),
    "transposed": (sequence(nn.ConvTranspose2d(2, 2, 2)), (2, 4, 4), "network.0", "shrinks"),
    "linear on maps": (sequence(linear(4, 4)), (2, 3, 4), "network.0", "Flatten"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compiled_is_named(name: str) -> None:
    maker, shape, field, words = REFUSED[name]
    with pytest.raises(ConfigError, match=words) as caught:
        compile_network(maker().eval(), np.random.default_rng(0).normal(size=(8, *shape)))
    assert caught.value.field == field
    assert caught.value.fix


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.query(x) * self.key(x)


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.one(x), self.two(x)


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Counted(nn.Module):
    """Treats the batch as one."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) * x.shape[0]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Attention, "with each other"),
        (Heads, "one head"),
        (Centred, "over examples"),
        (Counted, "another function"),
    ],
)
def test_what_depends_on_more_than_one_number_is_refused(
    module: type[nn.Module], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        compile_network(module().eval(), np.random.default_rng(0).normal(size=(8, 4)))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_chains_are_read_as_what_they_are(data: st.DataObject) -> None:
    """The reading in real numbers equals the module: it refuses itself where it does not."""
    draw = data.draw
    layers: list[nn.Module] = []
    channels, sides = draw(st.integers(1, 3)), [draw(st.integers(4, 9)), draw(st.integers(4, 9))]
    shape = (channels, *sides)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("conv", "conv", "norm", "relu", "max", "mean", "pad")))
        if kind == "conv":
            kernel = tuple(draw(st.integers(1, min(3, side))) for side in sides)
            stride = draw(st.sampled_from(((1, 1), (2, 1), (1, 2), (2, 2))))
            padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
            groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
            wide = groups * draw(st.integers(1, 2))
            layers.append(conv(channels, wide, kernel, stride, padding, groups=groups))
            channels = wide
            sides = [
                (n + 2 * p - k) // s + 1
                for n, p, k, s in zip(sides, padding, kernel, stride, strict=True)
            ]
        elif kind == "norm":
            layers.append(norm(channels))
        elif kind == "relu":
            layers.append(relu())
        elif kind in ("max", "mean") and min(sides) > 1:
            layers.append(nn.MaxPool2d(2, 1) if kind == "max" else nn.AvgPool2d(2, 1))
            sides = [n - 1 for n in sides]
        elif kind == "pad":
            layers.append(nn.ZeroPad2d((1, 0, 0, 2)))
            sides = [sides[0] + 2, sides[1] + 1]
    module = settled(nn.Sequential(*layers, flat()), 3)
    read_network(module, torch.randn(3, *shape))
