"""A model's tensors in blocks: each tensor in exactly one, in the order in which inputs meet them.

A block is what is merged, shared and counted as one. The default is a sub-layer (attention, its
norm, the MLP, its norm), as in FlexMerge (Dhasade et al. 2025) for CLIP's towers and T5.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hansa.base.errors import ConfigError
from hansa.weights.architectures import ARCHITECTURES, Architecture
from hansa.weights.canonical_names import HEADS
from hansa.weights.model_folder import ModelFolder

Granularity = Literal["sublayer", "layer", "tensor"]
Blocks = dict[str, tuple[str, ...]]
"""Block to the canonical names of its tensors, sorted."""

AUTOMATIC = "automatic"
_FIRST = re.compile(
    r"embed|wte|wpe|shared|token|patch|stem|^conv1|^bn1|^conv_in|ln_pre|pre_layernorm"
)


@dataclass(frozen=True)
class BlockPart:
    """Rows of a tensor: all, or a range where a big tensor is split.

    Attributes:
        start: first index of the tensor's first axis.
        stop: the index after the last.
    """

    tensor: str
    start: int
    stop: int


def blocks_of(model: ModelFolder | Iterable[str], granularity: Granularity = "sublayer") -> Blocks:
    """The blocks of a model, in the order in which inputs meet them.

    Known architectures are split by their table, all others (and heads) by their names: the first
    numbered part of a name is a layer, the module below it a part of the layer.

    Args:
        model: a model on disk, or canonical names of tensors.
        granularity: the parts of a layer, whole layers, or single tensors.

    Raises:
        ConfigError: the granularity is unknown, or a tensor is in no block or two.
    """
    names = sorted(model.entries if isinstance(model, ModelFolder) else model)
    if granularity not in ("sublayer", "layer", "tensor"):
        raise ConfigError("blocks", granularity, "is no granularity", "sublayer, layer or tensor")
    architecture = _architecture(names)
    placed: dict[str, list[tuple[_Place, str]]] = {}
    for name in names:
        place = (architecture and _by_table(architecture, name)) or _by_name(name)
        block = {"sublayer": place.block, "layer": place.layer, "tensor": name}[granularity]
        placed.setdefault(block, []).append((place, name))
    ordered = sorted(placed.items(), key=lambda item: (min(p.order for p, _ in item[1]), item[0]))
    blocks = {block: tuple(name for _, name in members) for block, members in ordered}
    check_blocks(blocks, names)
    return blocks


def architecture_of(names: Iterable[str]) -> str:
    """The name of the table that fits, or ``automatic``."""
    architecture = _architecture(list(names))
    return architecture.name if architecture else AUTOMATIC


def check_blocks(blocks: Mapping[str, Sequence[str]], names: Collection[str]) -> None:
    """Hold blocks to be a partition of the names.

    Raises:
        ConfigError: names the tensors that are in no block, in two, or in no model.
    """
    counts = Counter(name for members in blocks.values() for name in members)
    problems = {
        "is in no block": sorted(set(names) - set(counts)),
        "is in more than one block": sorted(name for name, n in counts.items() if n > 1),
        "is in a block, but not in the model": sorted(set(counts) - set(names)),
    }
    for problem, wrong in problems.items():
        if wrong:
            raise ConfigError("blocks", wrong[0], problem, "every tensor has to be in exactly one")
    if empty := [block for block, members in blocks.items() if not members]:
        raise ConfigError("blocks", empty[0], "holds no tensor")


def parts_of(
    model: ModelFolder, blocks: Blocks, rows_at_most: int | None = None
) -> dict[str, tuple[BlockPart, ...]]:
    """The blocks as rows of tensors; blocks of one big tensor are split by row ranges.

    A trained embedding may be half of a model: as one block it cannot be placed finely.

    Args:
        rows_at_most: of a block that is split; None splits nothing.

    Raises:
        ConfigError: it is not above 0.
    """
    if rows_at_most is not None and rows_at_most < 1:
        raise ConfigError("rows_at_most", rows_at_most, "has to be above 0")
    parts: dict[str, tuple[BlockPart, ...]] = {}
    for block, members in blocks.items():
        shapes = [model.entries[name].shape for name in members]
        rows = [shape[0] if shape else 1 for shape in shapes]
        if rows_at_most is None or len(members) > 1 or rows[0] <= rows_at_most:
            parts[block] = tuple(BlockPart(n, 0, r) for n, r in zip(members, rows, strict=True))
            continue
        for start in range(0, rows[0], rows_at_most):
            stop = min(start + rows_at_most, rows[0])
            parts[f"{block}[{start}:{stop}]"] = (BlockPart(members[0], start, stop),)
    return parts


_Order = tuple[int, int, tuple[int, ...], int]


@dataclass(frozen=True)
class _Place:
    """Where a tensor belongs.

    Attributes:
        block: by sub-layers.
        layer: by layers.
        order: before, in or after the layers; which stack; which layer; which part.
    """

    block: str
    layer: str
    order: _Order


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))


def _architecture(names: Sequence[str]) -> Architecture | None:
    """The table by which most tensors fall into layers, and that leaves no layer's tensor out."""
    best, most = None, 0
    for architecture in ARCHITECTURES:
        layers = re.compile("|".join(rf"(?:{stack.layer})\." for stack in architecture.stacks))
        inside = [name for name in names if layers.match(name)]
        if len(inside) > most and all(_by_table(architecture, name) for name in inside):
            best, most = architecture, len(inside)
    return best


def _by_table(architecture: Architecture, name: str) -> _Place | None:
    places: list[_Place] = []
    for number, stack in enumerate(architecture.stacks):
        if match := re.match(rf"({stack.layer})\.(.+)", name):
            layer, rest = match[1], match[match.lastindex or 2]
            for part, (title, pattern) in enumerate(stack.parts.items()):
                if re.fullmatch(pattern, rest):
                    order = (1, number, _numbers(layer), part)
                    places.append(_Place(f"{layer}.{title}", layer, order))
    for stage, outside in ((0, architecture.before), (2, architecture.after)):
        for part, (title, pattern) in enumerate(outside.items()):
            if re.fullmatch(pattern, name):
                places.append(_Place(title, title, (stage, 0, (), part)))
    if len(places) > 1:
        raise ConfigError("blocks", name, f"matches two blocks of {architecture.name}")
    return places[0] if places else None


def _by_name(name: str) -> _Place:
    """By the name alone: ``h.3.attn.q.weight`` is part ``attn`` of layer ``h.3``."""
    parts = name.split(".")
    module = ".".join(parts[:-1]) or name
    first = next((i for i, part in enumerate(parts) if re.search(r"\d$", part)), None)
    if first is None or first == len(parts) - 1 or parts[0] in HEADS:
        stage = 0 if _FIRST.search(name) and parts[0] not in HEADS else 3
        return _Place(module, module, (stage, 0, _numbers(module), 0))
    if first + 2 < len(parts) and parts[first + 1].isdigit():
        first += 1  # layer1.0 of a residual network
    layer, below = ".".join(parts[: first + 1]), parts[first + 1 : -1]
    if len(below) > 1 and below[1].isdigit():
        below = below[:2]  # layer.0 of T5's kind
    else:
        below = below[:1]
    return _Place(".".join([layer, *below]), layer, (1, 0, _numbers(layer), 0))
