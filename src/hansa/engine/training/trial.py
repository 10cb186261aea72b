"""A network tried on a few examples before anything starts: can it be trained, and as hansa does?

Nodes share one module and take turns in it, each with the numbers of its own row. So whatever a
network keeps from pass to pass must be in that row, or in its integer buffers; whatever it draws
must come from generators that can be given a node's stream.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.losses import LOSSES
from hansa.base.own_code import place_of, said
from hansa.base.spec import DataSpec
from hansa.data import Dataset
from hansa.engine.training.gradients import has_convolution
from hansa.engine.training.precision import computing, widened
from hansa.models import ParameterLayout, frozen_digest, shared_copy
from hansa.models.draws import Chance, drawing, generators, give_generator, watching

if TYPE_CHECKING:
    from torch import Tensor, nn

_SEED = 1
_EXAMPLES = 8


@dataclass(frozen=True)
class Tried:
    """What a trial showed.

    Attributes:
        chance: what draws random numbers in a pass of the network.
        counters: integer buffers that training changes, as a block's state names them.
        restless: whether evaluation changes the network's numbers too.
        widest: of a network that convolves, numbers of an example in the output of the layer that
            gives most; 0: it does not, or couples the examples of a batch when it is evaluated.
    """

    chance: Chance
    counters: tuple[str, ...] = ()
    restless: bool = False
    widest: int = 0


def try_out(
    module: nn.Module,
    dataset: Dataset,
    few: int | None = None,
    who: str = "",
    narrow: bool = False,
) -> Tried:
    """Train a copy of a network on some examples; the network itself stays as it is.

    Args:
        few: examples of the smallest batch of the run, which must do; None: unknown.
        who: whose batch that is.
        narrow: whether it has to do in bfloat16, too.

    Raises:
        ConfigError: it cannot be trained, or keeps what hansa does not know of. The field is
            empty, for the caller to name.
    """
    name, spec = type(module).__name__, dataset.spec
    layout = ParameterLayout.of(module)
    if not layout.trainable:
        frozen = f"all of its {layout.frozen_numbers} parameters are frozen"
        why = frozen if layout.frozen else "it has no parameters"
        fix = "a network in which some parameters have requires_grad"
        raise ConfigError("", name, f"has nothing to train: {why}", fix)
    try:
        network = _copied(module, dataset)
    except Exception as error:
        fix = "keep in it only what copy.deepcopy can copy"
        raise ConfigError("", name, f"cannot be copied: {said(error)}", fix) from error
    _refuse_copies(module, network, name)
    first, still = _inputs(dataset, _EXAMPLES), frozen_digest(module)
    with drawing(_SEED):
        before = generators(first[0].device.type)
        _pass(network, spec, *first, name)
        _refuse_closures(module, name)
        draws = generators(first[0].device.type) != before
        if narrow:
            _pass_narrow(network, spec, *first, name)
        if few is not None and few != len(first[1]):
            _pass_few(network, spec, _inputs(dataset, few), name, who)
    if frozen_digest(module) != still:
        problem = "changes a parameter that is frozen (requires_grad=False), which all nodes share"
        fix = "register_buffer(name, tensor) for what is a node's own and not trained"
        raise ConfigError("", name, problem, fix)
    counters, restless = _refuse_memory(module, layout, dataset, name)
    chance: Chance = _chance(module, spec, *first) if draws else ""
    # Products of other networks add up in another order where there are fewer examples.
    whole = chance in ("forward", "any") or restless or not has_convolution(network)
    widest = 0 if whole else _widest_layer(network, first[0])
    return Tried(chance, counters, restless, widest)


def _widest_layer(network: nn.Module, x: Tensor) -> int:
    """As :attr:`Tried.widest`."""
    seen = [0]

    def look(_: Any, __: Any, output: Any) -> None:
        for one in output if isinstance(output, tuple | list) else [output]:
            if isinstance(one, torch.Tensor):
                seen.append(one.numel() // len(x))

    if len(x) < 2:
        return 0
    layers = [part for part in network.modules() if not any(True for _ in part.children())]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    network.eval()
    try:
        with torch.no_grad():
            whole = network(x)
    finally:
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        apart = torch.cat([network(piece) for piece in x.split([1, len(x) - 1])])
    alike = torch.allclose(apart, whole, rtol=1e-4, atol=1e-5, equal_nan=True)
    return max(seen) if alike else 0


def _copied(module: nn.Module, dataset: Dataset) -> nn.Module:
    """A copy where the examples are; on the CPU it shares what is frozen."""
    device = dataset.train.inputs.device
    if device.type == "cpu":
        return shared_copy(module)
    return copy.deepcopy(module).to(device)  # moving shared numbers would move the module's own


def _refuse_copies(module: nn.Module, network: nn.Module, name: str) -> None:
    """Refuse a network whose copies do not train as it would: every thread works on a copy."""
    if not all(p.is_leaf for p in network.parameters()):
        problem = "cannot be trained: what is copied from it takes no gradients (TorchScript)"
        raise ConfigError("", name, problem, "the module itself, before torch.jit made it over")
    for hooked, parameter in module.named_parameters():
        after = getattr(parameter, "_post_accumulate_grad_hooks", None)
        if parameter._backward_hooks or after:
            problem = f"has a hook on its parameter {hooked!r}, which copies of it lose"
            fix = "do in forward what the hook does, or in a hook of a module"
            raise ConfigError("", name, problem, fix)


def _refuse_closures(module: nn.Module, name: str) -> None:
    """Refuse a network whose copy, which was trained just now, computes with the original."""
    reached = [n for n, p in module.named_parameters() if p.grad is not None]
    if reached:
        module.zero_grad()
        problem = f"has copies that compute with {reached[0]!r} of the original"
        fix = "no lambda or inner function that holds self: a method copies as it should"
        raise ConfigError("", name, problem, fix)


def _chance(module: nn.Module, spec: DataSpec, x: Tensor, y: Tensor) -> Chance:
    """What draws in a network in which something does."""
    if x.device.type != "cpu":
        return "any"
    network, own = shared_copy(module), shared_copy(module)
    with drawing(_SEED):
        wanted, again = _gradients(network, spec, x, y)
    if again:
        return "any"
    generator = give_generator(own)
    with drawing(_SEED + 1):
        before = generators()
        redrawn, _ = _gradients(own, spec, x, y, generator)
        state = generator.get_state()
        own.eval()
        with torch.no_grad():
            own(x)
        # In evaluation nobody seeds a generator of its own.
        alone = generators() == before and torch.equal(generator.get_state(), state)
    return "dropout" if alone and all(map(torch.equal, redrawn, wanted)) else "forward"


def _gradients(
    network: nn.Module, spec: DataSpec, x: Tensor, y: Tensor, own: torch.Generator | None = None
) -> tuple[list[Tensor], bool]:
    """Gradients of a training pass, and whether something draws on the way back."""
    if own is not None:
        own.manual_seed(_SEED)
    network.train()
    trained = [p for p in network.parameters() if p.requires_grad]
    with torch.enable_grad():
        loss = LOSSES[spec.task](network(x), y).mean()
    before = generators()
    with watching() as drawn:
        loss.backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    return gradients, bool(drawn) or generators() != before


def _inputs(dataset: Dataset, count: int, end: bool = False) -> tuple[Tensor, Tensor]:
    """Some of the first (or last) training examples: inputs and targets."""
    count = min(count, len(dataset.train))
    start = len(dataset.train) - count if end else 0
    index = torch.arange(start, start + count, device=dataset.train.targets.device)
    return dataset.gather(dataset.train, index)


def _pass(network: nn.Module, spec: DataSpec, x: Tensor, y: Tensor, name: str) -> None:
    """Passes for training and for evaluation, held to what a network has to give."""
    shape = ", ".join(map(str, x.shape[1:]))
    wanted = f"[B, {spec.outputs}]" + (" (one score a class)" if spec.classes else "")
    expected = (
        f"map a batch [B, {shape}] of {str(x.dtype).removeprefix('torch.')} to {wanted}, "
        "in training and in evaluation"
    )
    for training in (False, True):
        network.train(training)
        passed = x.clone()
        with torch.set_grad_enabled(training):
            problem = f"fails on {len(x)} examples"
            outputs = _attempt(lambda: network(passed), name, problem, expected)  # noqa: B023
        if not torch.equal(passed, x) and not x.isnan().any():
            problem = "changes the examples that it is given"
            raise ConfigError("", name, problem, "x = x - 1 instead of x -= 1, or x = x.clone()")
        _refuse_form(outputs, spec, x, name, expected)
    with torch.enable_grad():
        loss = LOSSES[spec.task](outputs, y).mean()
    if not loss.requires_grad:
        problem = "gives an output without a gradient: nothing in it can be trained"
        raise ConfigError("", name, problem, "no torch.no_grad or detach on the way to the output")
    _attempt(loss.backward, name, "fails on the way back, from the loss to the gradients", expected)


def _pass_narrow(network: nn.Module, spec: DataSpec, x: Tensor, y: Tensor, name: str) -> None:
    """A pass in mixed precision, there and back."""
    problem = "cannot compute in bfloat16"
    fix = "train.precision: float32; or a.to(b.dtype) in forward where two kinds of numbers meet"

    def both_ways() -> None:
        with torch.enable_grad():
            with computing("bfloat16", x.device):
                outputs = widened(network(x.clone()))
            LOSSES[spec.task](outputs, y).mean().backward()

    network.train()
    _attempt(both_ways, name, problem, fix)


def _pass_few(
    network: nn.Module, spec: DataSpec, few: tuple[Tensor, Tensor], name: str, who: str
) -> None:
    """A pass on the smallest batch that somebody trains on."""
    x = few[0]
    count = "a batch of one example" if len(x) == 1 else f"a batch of {len(x)} examples"
    fix = (
        "another train.batch_size, train.drop_last: true, fewer nodes or a more even "
        "data.partition; or GroupNorm instead of BatchNorm"
    )
    network.train()
    with torch.enable_grad():
        problem = f"cannot train on {count}{who}"
        outputs = _attempt(lambda: network(x), name, problem, fix)
        _refuse_form(outputs, spec, x, name, fix)


def _refuse_form(outputs: Any, spec: DataSpec, x: Tensor, name: str, expected: str) -> None:
    """Refuse outputs of another form than the loss takes."""
    problem = ""
    if not isinstance(outputs, torch.Tensor):
        problem = f"gives a {type(outputs).__name__} where a tensor is wanted"
    elif not outputs.is_floating_point():
        problem = f"gives {str(outputs.dtype).removeprefix('torch.')} where floats are wanted"
    elif list(outputs.shape) != [len(x), spec.outputs]:
        flat = spec.task == "regression" and outputs.numel() == len(x) * spec.outputs
        if not (flat and outputs.ndim and len(outputs) == len(x)):
            shape = list(outputs.shape)
            problem = f"maps {len(x)} examples to {shape}, not to [{len(x)}, {spec.outputs}]"
    if problem:
        raise ConfigError("", name, problem, f"it has to {expected}")


def _attempt(work: Callable[[], Any], name: str, problem: str, fix: str) -> Any:
    try:
        return work()
    except ConfigError:
        raise
    except Exception as error:
        place = place_of(error)
        where = f"{place}: " if place else ""
        raise ConfigError("", name, f"{problem}: {where}{said(error)}", fix) from error


def _refuse_memory(
    module: nn.Module, layout: ParameterLayout, dataset: Dataset, name: str
) -> tuple[tuple[str, ...], bool]:
    """Refuse what a network keeps besides its row and its integer buffers.

    With its row as it was, a network that was trained on others' examples must compute what it
    did before.

    Returns:
        The integer buffers that training changed, as a block's state names them; and whether
        evaluation changes a number.
    """
    network = _copied(module, dataset)
    x, (other, y) = _inputs(dataset, _EXAMPLES)[0], _inputs(dataset, _EXAMPLES, end=True)
    row = layout.flatten(network)
    buffers = dict(network.named_buffers())
    integers = {e.name: buffers[e.name].clone() for e in layout.integer_buffers}
    outside = {n: b.clone() for n, b in buffers.items() if n not in {*layout.names, *integers}}
    held = [tensor.detach() for tensor in layout.tensors(network)]  # so that no other lies there
    places = [tensor.data_ptr() for tensor in held]

    def outputs() -> Tensor:
        layout.load_(network, row)
        for entry, value in integers.items():
            dict(network.named_buffers())[entry].copy_(value)
        with torch.no_grad():
            return torch.stack([_run(network, x, training) for training in (False, True)])

    before = outputs()
    layout.load_(network, row)
    for entry, value in integers.items():
        network.get_buffer(entry).copy_(value)
    with torch.no_grad():
        _run(network, x, False)
    restless = not _same(layout.flatten(network), row)
    restless |= any(not _same(network.get_buffer(n), value) for n, value in integers.items())
    for _ in range(2):
        with torch.enable_grad():
            LOSSES[dataset.spec.task](_run(network, other, True), y).mean().backward()
    changed = [n for n, value in integers.items() if not _same(network.get_buffer(n), value)]
    _refuse_moves(network, layout, places, name)
    if torch.allclose(outputs(), before, rtol=1e-4, atol=1e-5, equal_nan=True):
        return tuple(f"buffer.{entry}" for entry in changed), restless
    now = dict(network.named_buffers())
    moved = [n for n, b in outside.items() if n in now and not _same(now[n], b)]
    if moved:
        problem = f"training changes its buffer {moved[0]!r}, which is not part of its state"
        fix = f"register_buffer({moved[0].rpartition('.')[2]!r}, ..., persistent=True)"
        raise ConfigError("", name, f"{problem} (persistent=False), so nodes would share it", fix)
    problem = (
        "keeps something from one batch to the next outside of its parameters and buffers, an "
        "attribute or a random generator of its own"
    )
    fix = "keep it in a buffer: register_buffer(name, tensor); draw without generator="
    raise ConfigError("", name, f"{problem}, so nodes would share it", fix)


def _refuse_moves(
    network: nn.Module, layout: ParameterLayout, places: list[int], name: str
) -> None:
    """Refuse a network that put other tensors where its row's numbers were."""
    tensors = zip(layout.entries, layout.tensors(network), places, strict=True)
    moved = [entry for entry, tensor, place in tensors if tensor.data_ptr() != place]
    if moved:
        last = moved[0].name.rpartition(".")[2]
        what = "buffer" if moved[0].buffer else "parameter"
        problem = f"puts another tensor in the place of its {what} {moved[0].name!r}"
        fix = f"write into the one that is there: {last}.copy_(...) under torch.no_grad()"
        raise ConfigError("", name, problem, fix)


def _run(network: nn.Module, x: Tensor, training: bool) -> Tensor:
    network.train(training)
    with drawing(_SEED):
        outputs: Tensor = network(x)
    return outputs


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
