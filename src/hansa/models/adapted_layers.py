"""Which layers of a pretrained network low-rank adapters go into."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import nn


def targeted(module: nn.Module, ends: Sequence[str], field: str = "target_modules") -> list[str]:
    """The ends of the names of the layers to adapt, as PEFT takes them.

    Without any, all linear layers that stand in a numbered layer: not heads, not poolers.

    Raises:
        ConfigError: no linear layer has such a name; with those that are near.
    """
    linear = [name for name, layer in module.named_modules() if is_linear(layer)]
    if ends:
        for end in ends:
            if not any(name == end or name.endswith(f".{end}") for name in linear):
                fix = f"such as {', '.join(_near(end, linear))}"
                raise ConfigError(field, end, "is the end of no linear layer's name", fix)
        return list(ends)
    numbered = {m[1] for name in linear if (m := re.search(r"\.\d+\.(?!.*\.\d+\.)(.+)$", name))}
    # Where nothing is numbered every linear layer is meant.
    return sorted(numbered) or linear


def named_modules(module: nn.Module, ends: Sequence[str], field: str) -> list[str]:
    """The ends of the names of modules, each of which there is.

    Raises:
        ConfigError: no module has such a name; with those that are near.
    """
    full = [(n, m) for n, m in module.named_modules() if n and any(True for _ in m.parameters())]
    names = [name for name, _ in full]
    for end in ends:
        if not any(name == end or name.endswith(f".{end}") for name in names):
            fix = f"such as {', '.join(_near(end, names))}"
            raise ConfigError(field, end, "is the end of no module's name", fix)
    return list(ends)


def is_linear(layer: nn.Module) -> bool:
    """Whether it maps by one matrix: torch's linear layer, or that of GPT-2's family."""
    return isinstance(layer, torch.nn.Linear) or type(layer).__name__ == "Conv1D"


def _near(end: str, names: Sequence[str]) -> list[str]:
    """Ends that might be meant, best first."""
    ends = dict.fromkeys(name.rpartition(".")[2] for name in names)
    near = difflib.get_close_matches(end.rpartition(".")[2], ends, n=4, cutoff=0.5)
    rest = [one for one in ends if one not in near and (end in one or one in end)]
    return [*near, *rest, *(one for one in ends if one not in {*near, *rest})][:6]
