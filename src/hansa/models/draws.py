"""Random numbers that networks draw in a forward pass, whether by a layer or by a function."""

from __future__ import annotations

import contextlib
import functools
import random
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from hansa.base.lazy import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

Chance: TypeAlias = Literal["", "dropout", "forward", "any"]
"""What draws when a network trains: nothing, its dropout layers alone, something on the way there,
or something on the way back too (such as checkpoints of activations, which go there again)."""
_State: TypeAlias = tuple[Any, Any, Any]
_alone = threading.RLock()


@contextlib.contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Let all that is drawn meanwhile from torch, Python or NumPy follow from ``seed``.

    Only generators that belong to nobody are meant; those on the CPU are left as they were. There
    is one of each for all threads, so only one thread at a time is let in.
    """
    with _alone:
        before = _state()
        _seed(seed)
        try:
            yield
        finally:
            _restore(before)


class Draws:
    """As :func:`drawing`, taken up again where it was left whenever it is entered.

    So threads whose networks draw in their forward passes alone take turns in these only.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._state: _State | None = None
        self._before: _State | None = None

    def __enter__(self) -> None:
        _alone.acquire()
        self._before = _state()
        if self._state is None:
            _seed(self.seed)
        else:
            _restore(self._state)

    def __exit__(self, *_: object) -> None:
        assert self._before is not None  # it was entered
        self._state = _state()
        _restore(self._before)
        _alone.release()


def give_generator(module: nn.Module) -> torch.Generator:
    """Let the plain dropout layers of a module on the CPU draw from a generator of their own.

    At the same seed they draw what they would from torch's. So threads whose networks draw in
    such layers alone need not wait for each other.
    """
    generator = torch.Generator()
    for layer in module.modules():
        if type(layer) is nn.Dropout:
            layer.forward = functools.partial(_dropout, layer, generator)  # type: ignore[method-assign]
    return generator


def _dropout(layer: nn.Dropout, generator: torch.Generator, x: Tensor) -> Tensor:
    """As the layer's own ``forward``, to the bit (Srivastava et al., 2014)."""
    if not layer.training or not 0 < layer.p < 1:
        return nn.Dropout.forward(layer, x)
    kept = torch.empty_like(x).bernoulli_(1 - layer.p, generator=generator).div_(1 - layer.p)
    return x.mul_(kept) if layer.inplace else x * kept


@contextlib.contextmanager
def watching() -> Iterator[list[str]]:
    """Names of the operations of torch that draw meanwhile, on the CPU's way back too."""
    from torch.utils._python_dispatch import TorchDispatchMode

    names: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            if torch.Tag.nondeterministic_seeded in func.tags:
                names.append(str(func))
            return func(*args, **(kwargs or {}))

    with Watch():
        yield names


def seed_torch(seed: int) -> None:
    """As ``torch.manual_seed``, which keeps a note of the whole stack for each kind of device that
    has not begun: milliseconds and memory at each call, and here for devices that torch has not.
    """
    if torch.accelerator.current_accelerator() is None:
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _seed(seed: int) -> None:
    seed_torch(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _state() -> _State:
    return torch.get_rng_state(), random.getstate(), np.random.get_state()


def _restore(state: _State) -> None:
    torch.set_rng_state(state[0])
    random.setstate(state[1])
    np.random.set_state(state[2])


def generators(device: str = "cpu") -> list[Any]:
    """The state of the generators that :func:`drawing` seeds: drawing from any changes it."""
    numpy: Any = np.random.get_state(legacy=False)
    states = [torch.get_rng_state().tolist(), random.getstate(), str(numpy["bit_generator"])]
    states += [numpy["state"]["key"].tolist(), numpy["state"]["pos"], numpy["has_gauss"]]
    if device == "cuda":
        states += [state.tolist() for state in torch.cuda.get_rng_state_all()]
    return states
