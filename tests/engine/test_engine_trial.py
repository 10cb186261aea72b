"""Networks of a user's own: what cannot be trained as hansa does is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hansa.base.errors import ConfigError, OwnCodeError, RunError
from hansa.engine import Job

pytestmark = [
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


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
        ("yields", "return block.rows", ["yields a Tensor", "a Send or a Tell"]),
        ("wrong", "return super().outgoing(None, t)", ["line 8, in outgoing", "round 1"]),
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
    from hansa.base.modules import load_module

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
    from hansa.engine.exchange.asked import Exchange

    job = make_job({"algorithm": {"name": "fedavg", "failure": 1.0}})
    with pytest.raises(RunError) as caught:
        host(job)
    assert caught.value.repeats
    job = make_job()

    def broken(self: Any, *arguments: Any) -> Any:
        raise RunError("a peer is gone")

    monkeypatch.setattr(Exchange, "__call__", broken)
    with pytest.raises(RunError) as caught:
        host(job)
    assert not caught.value.repeats
