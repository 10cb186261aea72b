"""Networks of a user's own: what draws repeats, what cannot be trained as hansa does is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hansa.base.errors import ConfigError, OwnCodeError, RunError
from hansa.engine import Job
from hansa.engine.runtime import split_nodes
from hansa.models.draws import drawing, give_generator

NETS = """
import random
import numpy, torch
import torch.utils.checkpoint
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 12), nn.Linear(12, 10)
        self.setup()

    def setup(self):
        pass

    def forward(self, x):
        return self.b(self.hidden(torch.relu(self.a(x.flatten(1)))))

    def hidden(self, h):
        return h

class Functional(Net):
    def hidden(self, h):
        return F.dropout(h, 0.5, self.training)

class Always(Net):  # in evaluation too
    def hidden(self, h):
        return F.dropout(h, 0.3, True)

class Noise(Net):
    def hidden(self, h):
        return h + 0.1 * torch.randn_like(h)

class Depth(Net):
    def hidden(self, h):
        return h * (2.0 if random.random() < 0.5 else 0.5) + float(numpy.random.rand())

class Attention(Net):
    def setup(self):
        self.attend = nn.MultiheadAttention(12, 2, dropout=0.4, batch_first=True)

    def hidden(self, h):
        return self.attend(h[:, None], h[:, None], h[:, None])[0][:, 0]

class Layer(Net):
    def setup(self):
        self.drop, self.more = nn.Dropout(0.5), nn.Dropout(0.2, inplace=True)

    def hidden(self, h):
        return self.more(self.drop(h))

class Mixed(Layer):
    def hidden(self, h):
        return F.dropout(self.drop(h), 0.2, self.training)

class Again(Layer):  # the way back repeats the way there, at the generator's state of then
    def hidden(self, h):
        return torch.utils.checkpoint.checkpoint(self.drop, h, use_reentrant=False)

class Reentrant(Layer):
    def hidden(self, h):
        return torch.utils.checkpoint.checkpoint(self.drop, h, use_reentrant=True)

class MonteCarlo(Layer):  # its dropout layers draw in evaluation too
    def train(self, mode=True):
        super().train(mode)
        self.drop.train()
        return self

class Watched(Net):  # keeps the highest value that it has seen, whoever looks
    def setup(self):
        self.register_buffer("peak", torch.zeros(12))
        self.register_buffer("passes", torch.tensor(0))

    def hidden(self, h):
        self.passes += 1
        self.peak.copy_(torch.maximum(self.peak, h.detach().abs().amax(0)))
        return h / (self.passes + self.peak)

class Clamped(Net):
    def hidden(self, h):
        self.b.weight.data.clamp_(-0.1, 0.1)
        return h

class Steps(Net):  # what it has counted shows in what it gives
    def setup(self):
        self.register_buffer("seen", torch.tensor(0))

    def hidden(self, h):
        if self.training:
            self.seen += 1
        return h / (1 + self.seen)

class Lost(Net):
    def setup(self):
        self.register_buffer("ema", torch.zeros(12), persistent=False)

    def hidden(self, h):
        if self.training:
            self.ema.mul_(0.9).add_(0.1 * h.detach().mean(0))
        return h - self.ema

class LostCount(Net):
    def setup(self):
        self.register_buffer("seen", torch.tensor(0), persistent=False)

    def hidden(self, h):
        self.seen += int(self.training)
        return h / (1 + self.seen)

class Attribute(Net):
    def setup(self):
        self.gain = 1.0

    def hidden(self, h):
        self.gain *= 0.5 if self.training else 1
        return h * self.gain

class OwnGenerator(Net):
    def setup(self):
        self.random = torch.Generator().manual_seed(1)

    def hidden(self, h):
        return h + torch.rand(h.shape, generator=self.random)

class Constant(Net):  # a table that is always the same, and one that is made when it is needed
    def setup(self):
        self.register_buffer("table", torch.ones(12), persistent=False)
        self.made = None

    def hidden(self, h):
        if self.made is None:
            self.made = torch.arange(12.0) / 12
        return h * self.table + self.made

class Normed(Net):
    def setup(self):
        self.norm = nn.BatchNorm1d(12)

    def hidden(self, h):
        return self.norm(h)

class Frozen(Net):
    def setup(self):
        self.requires_grad_(False)

class Detached(Net):
    def hidden(self, h):
        return h

    def forward(self, x):
        return super().forward(x).detach()

class Pair(Net):
    def forward(self, x):
        return super().forward(x), x

class TrainPair(Net):
    def forward(self, x):
        found = super().forward(x)
        return (found, found) if self.training else found

class Fewer(Net):
    def setup(self):
        self.b = nn.Linear(12, 7)

class Whole(Net):
    def forward(self, x):
        return super().forward(x).argmax(1)

class Other(Net):
    def setup(self):
        self.a = nn.Linear(63, 12)

class Raises(Net):
    def hidden(self, h):
        raise KeyError("no such thing")

class TrainRaises(Net):
    def hidden(self, h):
        if self.training:
            raise KeyError("no such thing")
        return h

class Assigned(Net):
    def setup(self):
        self.register_buffer("mean", torch.zeros(12))

    def hidden(self, h):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
        return h - self.mean

class MaxNorm(Net):
    def hidden(self, h):
        self.b.weight.data = torch.renorm(self.b.weight.data, 2, 0, 0.5)
        return h

class Scales(Net):
    def forward(self, x):
        x *= 2
        return super().forward(x)

class Hooked(Net):
    def setup(self):
        self.b.bias.register_hook(lambda grad: grad * 0)

class Closure(Net):
    def setup(self):
        self.hidden = lambda h: h * self.gain
        self.gain = nn.Parameter(torch.ones(12))

def scripted():
    return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))

class Nothing(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]

def wrong():
    return undefined_name

def needs(width):
    return nn.Linear(width, 10)
"""

pytestmark = [
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


@pytest.fixture
def net(tmp_path: Path, make_job: Callable[..., Job]) -> Callable[..., Job]:
    """A job of a network in a file of one's own."""
    file = tmp_path / "trial_nets.py"
    file.write_text(NETS)

    def make(name: str, changes: dict[str, Any] | None = None) -> Job:
        return make_job({"model": {"name": "module", "path": f"{file}:{name}"}, **(changes or {})})

    return make


DRAWING = ["Layer", "Functional", "Always", "Noise", "Depth", "Attention", "Mixed", "Again"]
DRAWING += ["Reentrant", "MonteCarlo"]


@pytest.mark.parametrize("name", [*DRAWING, "Steps", "Normed", "Constant", "Watched", "Clamped"])
@pytest.mark.parametrize("algorithm", ["dpsgd", "fedavg"])
def test_one_seed_is_one_result(
    net: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    name: str,
    algorithm: str,
) -> None:
    """Again, after other draws, and in blocks that exchange over sockets."""
    changes = {"algorithm": algorithm, "rounds": 3, "evaluate": {"every": 1}}
    first, reports = host(net(name, changes))
    torch.manual_seed(99)
    np.random.seed(99)
    second, again = host(net(name, changes))
    assert torch.equal(first.rows, second.rows)
    for one, other in zip(reports, again, strict=True):
        assert one["measured"]["values"].keys() == other["measured"]["values"].keys()
        for key, value in one["measured"]["values"].items():
            np.testing.assert_array_equal(value, other["measured"]["values"][key])
    rows = host_apart(lambda: net(name, changes), 3)[0]
    assert torch.equal(rows, first.rows)


@pytest.mark.parametrize("name", DRAWING)
def test_nodes_draw_for_themselves(net: Callable[..., Job], name: str) -> None:
    """And leave the generators of whoever runs them alone."""
    job = net(name)
    wanted = {"Layer": "dropout", "Again": "any", "Reentrant": "any"}
    assert job.tried.chance == wanted.get(name, "forward")
    block = job.block(np.arange(8))
    block.parts = [block.parts[0]] * 8  # the same examples, though in another order
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["pos"]
    block.train(0)
    block.trainer.evaluate(block.rows, block.trainer.dataset.test, 100)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state(legacy=False)["state"]["pos"] == before[1]
    assert len({tuple(row.tolist()) for row in block.rows}) == 8
    block.trainer.close()


def test_dropout_layers_draw_without_a_turn_what_they_draw_in_turn(
    net: Callable[..., Job],
) -> None:
    rows = []
    for chance in ("dropout", "forward", "any"):
        job = net("Layer")
        vars(job)["tried"] = replace(job.tried, chance=chance)
        block = job.block(np.arange(8))
        for t in range(2):
            block.train(t)
        block.trainer.close()
        rows.append(block.rows)
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], rows[2])


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 4, 4), (0, 3)])
@pytest.mark.parametrize("p", [0, 0.25, 0.6, 1])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_dropout_layer_with_a_generator_is_torchs(
    shape: tuple[int, ...], p: float, inplace: bool
) -> None:
    torch.manual_seed(3)
    one = torch.randn(*shape)
    for x in (one, one.to(memory_format=torch.channels_last)) if one.ndim == 4 else (one,):
        layer, own = nn.Dropout(p, inplace), nn.Sequential(nn.Dropout(p, inplace))
        generator = give_generator(own).manual_seed(7)
        with drawing(7):
            wanted = [layer(x.clone()) for _ in range(3)]
        before = torch.get_rng_state()
        found = [own(x.clone()) for _ in range(3)]
        assert all(map(torch.equal, found, wanted))
        assert torch.equal(torch.get_rng_state(), before) or p == 1
        assert torch.equal(own.eval()(x), x)
        assert generator is not None


@pytest.mark.parametrize("name", ["Always", "Noise", "Steps", "MonteCarlo", "Watched", "Clamped"])
def test_measuring_does_not_depend_on_whom_else(net: Callable[..., Job], name: str) -> None:
    """A node's loss is its own, alone or among others, on the test set and on what it holds."""
    job = net(name, {"evaluate": {"local_validation": 0.2}})
    block = job.block(np.arange(8))
    for t in range(2):
        block.train(t, who=np.array([0, 3, 5, 6]))
    test, trainer = block.trainer.dataset.test, block.trainer
    everybody, before = np.arange(8), block.rows.clone()
    whole = trainer.evaluate(block.rows, test, 64, block.integers(everybody))["loss"]
    held = trainer.losses(block.rows, everybody, block.held, 16, block.integers(everybody))
    for ids in split_nodes(8, 3):
        part = trainer.evaluate(block.rows[ids[0] : ids[-1] + 1], test, 64, block.integers(ids))
        np.testing.assert_array_equal(part["loss"], whole[ids])
        rows, own = block.rows[ids[0] : ids[-1] + 1], [block.held[i] for i in ids]
        found = trainer.losses(rows, np.arange(len(ids)), own, 16, block.integers(ids))
        np.testing.assert_array_equal(found, held[ids])
    shared = trainer.losses(block.rows[:1], np.zeros(8, dtype=np.int64), block.held, 16)
    alone = trainer.losses(block.rows[:1], np.zeros(1, dtype=np.int64), block.held[4:5], 16)
    np.testing.assert_allclose(alone[0], shared[4], rtol=1e-6)
    assert torch.equal(block.rows, before)
    trainer.threads = 3  # each on a part of the test set
    again = trainer.evaluate(block.rows[:1], test, 64, block.integers(everybody[:1]))["loss"]
    np.testing.assert_array_equal(again, whole[:1])
    trainer.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Frozen", ["nothing to train", "requires_grad"]),
        ("Nothing", ["nothing to train", "no parameters"]),
        ("Detached", ["without a gradient", "detach"]),
        ("Pair", ["maps two examples", "tuple", "[2, 10]"]),
        ("TrainPair", ["gives a tuple", "[B, 10]"]),
        ("Fewer", ["to [2, 7], not to [2, 10]"]),
        ("Whole", ["to [2], not to [2, 10]"]),
        ("Other", ["trial_nets.py, line", "in forward", "RuntimeError", "[2, 10]"]),
        ("Raises", ["trial_nets.py, line", "in hidden", "KeyError", "no such thing"]),
        ("TrainRaises", ["trial_nets.py, line", "in hidden", "no such thing", "in training"]),
        ("Lost", ["'ema'", "persistent"]),
        ("LostCount", ["'seen'", "persistent"]),
        ("Attribute", ["from one batch to the next", "register_buffer"]),
        ("OwnGenerator", ["generator of its own", "without generator="]),
        ("Assigned", ["another tensor", "buffer 'mean'", "mean.copy_("]),
        ("MaxNorm", ["another tensor", "parameter 'b.weight'", "weight.copy_("]),
        ("Scales", ["changes the examples", "instead of x -= 1"]),
        ("Hooked", ["a hook on its parameter 'b.bias'", "in forward"]),
        ("Closure", ["compute with 'gain' of the original", "lambda"]),
        ("scripted", ["TorchScript", "before torch.jit"]),
        ("wrong", ["trial_nets.py, line", "in wrong", "NameError", "undefined_name"]),
        ("needs", ["do not fit", "width"]),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(
    net: Callable[..., Job], name: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        net(name)
    assert caught.value.field.partition(".")[0] == "model"
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("train", "fails"),
    [
        ({"batch_size": 1}, True),
        ({"batch_size": 2}, False),
        ({"batch_size": 178, "drop_last": False, "local_epochs": 1}, True),  # 179 or 180 examples
        ({"batch_size": 178, "drop_last": False, "local_steps": 1}, False),  # not that far
        ({"batch_size": 178, "local_epochs": 1}, False),
    ],
    ids=str,
)
def test_batch_norm_needs_two_examples_in_the_smallest_batch(
    net: Callable[..., Job], train: dict[str, Any], fails: bool
) -> None:
    changes = {f"train.{name}": value for name, value in train.items()}
    sizes = {len(part) for part in net("Net").parts}
    if "178" in str(train):
        assert sizes & {179}, sizes
    if not fails:
        net("Normed", changes)
        return
    with pytest.raises(ConfigError, match=r"a batch of one example, as node \d+ has") as caught:
        net("Normed", changes)
    assert "train.drop_last" in caught.value.fix


def test_one_client_of_one_example(net: Callable[..., Job]) -> None:
    parts = {"name": "digits", "partition": {"name": "quantity", "min_samples": 1, "alpha": 0.1}}
    changes = {"data": parts, "train.drop_last": False, "train.local_steps": 1}
    sizes = [len(part) for part in net("Net", changes).parts]
    assert min(sizes) == 1
    with pytest.raises(ConfigError, match=f"as node {sizes.index(1)} has"):
        net("Normed", changes)


LATE = """
from hansa.base.component import register
from hansa.learn import DPSGD

@register("late_{what}")
class Late(DPSGD):
    def outgoing(self, block, t):
        {body}
"""


@pytest.mark.parametrize(
    ("what", "body", "words"),
    [
        (
            "raises",
            "return 1 / 0 if t else super().outgoing(block, t)",
            ["line 8, in outgoing", "ZeroDivisionError", "round 2"],
        ),
        ("yields", "return block.rows", ["yields a Tensor", "a Send or a Share"]),
        ("wrong", "return super().outgoing(None, t)", ["Late", "round 1"]),
    ],
)
def test_an_algorithm_of_ones_own_is_named_when_it_fails(
    tmp_path: Path,
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    what: str,
    body: str,
    words: list[str],
) -> None:
    from hansa.base.component import load_module

    file = tmp_path / f"late_{what}.py"
    file.write_text(LATE.format(what=what, body=body))
    load_module(str(file))
    with pytest.raises(OwnCodeError) as caught:
        host(make_job({"algorithm": f"late_{what}"}))
    for word in (str(file), *words):
        assert word in str(caught.value)


def test_what_would_come_again_says_so(
    make_job: Callable[..., Job], host: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hansa.engine.exchange import LocalExchange

    job = make_job({"algorithm": {"name": "fedavg", "failure": 1.0}})
    with pytest.raises(RunError) as caught:
        host(job)
    assert caught.value.repeats
    job = make_job()

    def broken(self: Any, *arguments: Any) -> Any:
        raise RunError("a peer is gone")

    monkeypatch.setattr(LocalExchange, "__call__", broken)
    with pytest.raises(RunError) as caught:
        host(job)
    assert not caught.value.repeats
