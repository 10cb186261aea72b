"""A program as one file without code: facts as JSON, weights in as few bytes as hold them.

What is read is looked through before it is used: names, shapes, scales, and that accumulators have
the bounds that the file tells.
"""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.bundle import bundle_file, read_bundle, write_bundle
from hansa.base.errors import CheckpointError
from hansa.base.lazy import torch
from hansa.infer.private.client_steps import (
    MaxPool,
    Shift,
    Step,
    SumPool,
    Table,
    plain,
    step_of,
)
from hansa.infer.private.program import (
    LOGITS,
    Activation,
    Block,
    Program,
    Round,
    Term,
    Value,
    bounds,
)

if TYPE_CHECKING:
    from torch import Tensor

KIND, VERSION = "private program", 1
ENDING = ".safetensors"
_REMEDY = "compile it again: hansa infer compile"
_WIDTHS = ((8, "int8"), (16, "int16"), (32, "int32"), (64, "int64"))
_LARGEST = 1 << 52
_FARTHEST = 1 << 20  # of a stride, a dilation or a border


def _stem(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(ENDING))


def program_path(path: str | Path) -> Path:
    """The file of a program whose name is given with or without its ending."""
    return bundle_file(_stem(Path(path).expanduser()))


def write_program(path: str | Path, program: Program) -> Path:
    """Write a program; returns the file.

    Raises:
        DiskError: the disk is full or fails.
    """
    tensors: dict[str, Tensor] = {"offset": torch.from_numpy(np.float64(program.offset))}
    rounds = []
    for r, one in enumerate(program.rounds):
        blocks = []
        for b, block in enumerate(one.blocks):
            place = f"round{r}.block{b}"
            tensors[f"{place}.bias"] = torch.from_numpy(_narrow(block.bias))
            terms = []
            for t, term in enumerate(block.terms):
                tensors[f"{place}.term{t}"] = torch.from_numpy(_narrow(term.weight))
                facts = {k: v for k, v in vars(term).items() if k != "weight"}
                terms.append(facts)
            told = {"name": block.name, "shape": block.shape, "scale": block.scale}
            blocks.append(told | {"low": block.low, "high": block.high, "terms": terms})
        activations = [
            {"block": a.block, "makes": a.makes, "steps": [plain(step) for step in a.steps]}
            for a in one.activations
        ]
        rounds.append({"uploads": one.uploads, "blocks": blocks, "activations": activations})
    facts = {
        "kind": KIND,
        "version": VERSION,
        "values": [asdict(value) for value in program.values.values()],
        "rounds": rounds,
        "input_shape": program.input_shape,
        "classes": program.classes,
        "facts": program.facts,
    }
    stem = _stem(Path(path).expanduser())
    write_bundle(stem, _as_json(facts), tensors)
    return bundle_file(stem)


def _as_json(value: Any) -> Any:
    """With lists for tuples, so that what is read is what was written."""
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _narrow(whole: np.ndarray) -> np.ndarray:
    """Integers in the least width that holds them."""
    low, high = (int(whole.min()), int(whole.max())) if whole.size else (0, 0)
    width = next(kind for bits, kind in _WIDTHS if -(1 << bits - 1) <= low and high < 1 << bits - 1)
    return np.ascontiguousarray(whole, width)


def read_program(path: str | Path) -> Program:
    """The program in a file.

    Raises:
        CheckpointError: it is missing, damaged, of another version, or no program that can run;
            names the file and the place.
    """
    file = program_path(path)
    facts, tensors = read_bundle(_stem(file), _REMEDY)
    if facts.get("kind") != KIND:
        raise CheckpointError(f"{file}: is no program of private inference; {_REMEDY}")
    if facts.get("version") != VERSION:
        told = facts.get("version")
        problem = f"is of version {told!r}, this hansa reads {VERSION}"
        raise CheckpointError(f"{file}: {problem}; {_REMEDY}")
    try:
        program = _program(facts, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise CheckpointError(f"{file}: is no program ({error!r}); {_REMEDY}") from error
    try:
        check_program(program)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}; {_REMEDY}") from error
    return program


def _program(facts: dict[str, Any], tensors: dict[str, Tensor]) -> Program:
    values = {
        str(one["name"]): Value(
            str(one["name"]), _three(one["shape"]), int(one["low"]), int(one["high"]),
            float(one["scale"]),
        )
        for one in facts["values"]
    }  # fmt: skip
    if len(values) != len(facts["values"]):
        raise ValueError("two values of one name")
    rounds = []
    for r, one in enumerate(facts["rounds"]):
        blocks = tuple(
            _block(block, tensors, f"round{r}.block{b}") for b, block in enumerate(one["blocks"])
        )
        activations = tuple(
            Activation(str(a["block"]), tuple(step_of(s) for s in a["steps"]), str(a["makes"]))
            for a in one["activations"]
        )
        rounds.append(Round(tuple(map(str, one["uploads"])), blocks, activations))
    offset = tensors["offset"].double().numpy()
    shape = tuple(int(n) for n in facts["input_shape"])
    classes = tuple(map(str, facts["classes"]))
    return Program(values, tuple(rounds), shape, offset, classes, dict(facts["facts"]))


def _block(facts: dict[str, Any], tensors: dict[str, Tensor], place: str) -> Block:
    terms = tuple(
        Term(
            str(term["value"]),
            _whole(tensors[f"{place}.term{t}"]),
            _pair(term["stride"]),
            _sides(term["padding"]),
            _pair(term["dilation"]),
            int(term["groups"]),
        )
        for t, term in enumerate(facts["terms"])
    )
    bias = _whole(tensors[f"{place}.bias"])
    return Block(
        str(facts["name"]), terms, bias, _three(facts["shape"]), int(facts["low"]),
        int(facts["high"]), float(facts["scale"]),
    )  # fmt: skip


def _whole(tensor: Tensor) -> np.ndarray:
    if tensor.is_floating_point():
        raise ValueError("weights that are no integers")
    return tensor.to(torch.int64).numpy()


def _pair(value: Any) -> tuple[int, int]:
    one, two = value
    return int(one), int(two)


def _sides(value: Any) -> tuple[int, int, int, int]:
    top, bottom, left, right = value
    return int(top), int(bottom), int(left), int(right)


def _three(value: Any) -> tuple[int, int, int]:
    channels, high, wide = value
    return int(channels), int(high), int(wide)


def check_program(program: Program) -> None:
    """Hold a program against itself, so that it can be run and gives what it promises.

    Raises:
        ValueError: names the value or block and what is wrong.
    """
    first = program.input
    if (
        np.prod(first.shape) != np.prod(program.input_shape)
        or len(program.offset) != (first.shape[0])
    ):
        raise ValueError("the input's shape, rows and offset do not fit each other")
    for value in program.values.values():
        if min(value.shape) < 1 or not -_LARGEST < value.low <= value.high < _LARGEST:
            raise ValueError(f"value {value.name} has no numbers")
        if not (isfinite(value.scale) and value.scale > 0):
            raise ValueError(f"value {value.name} has a scale of {value.scale}")
    if not np.isfinite(program.offset).all():
        raise ValueError("the input's offset is not finite")
    made, ends = {first.name}, 0
    uploaded: set[str] = set()
    names: set[str] = set()
    for one in program.rounds:
        for name in one.uploads:
            if name not in made or name in uploaded:
                raise ValueError(f"value {name} is uploaded before it is made, or twice")
            uploaded.add(name)
        inside = {block.name: block for block in one.blocks}
        if len(inside) != len(one.blocks) or names & set(inside):
            raise ValueError("two blocks of one name")
        names |= set(inside)
        for block in one.blocks:
            _check_block(block, program.values, uploaded)
        fresh: set[str] = set()
        for activation in one.activations:
            if activation.block not in inside:
                raise ValueError(f"{activation.makes} is made of {activation.block!r}, no block")
            if activation.makes == LOGITS:
                ends += 1
                if activation.steps or one is not program.rounds[-1]:
                    raise ValueError("logits have steps, or are not the last")
                continue
            if activation.makes not in program.values or activation.makes in made | fresh:
                raise ValueError(f"{activation.makes} is no value, or made twice")
            value = program.values[activation.makes]
            _check_steps(activation.steps, inside[activation.block], value)
            fresh.add(value.name)
        made |= fresh
    if ends != 1:
        raise ValueError(f"{ends} blocks are logits")


def _check_block(block: Block, values: dict[str, Value], uploaded: set[str]) -> None:
    if not block.terms or len(block.bias) != block.shape[0]:
        raise ValueError(f"block {block.name} has no terms, or biases of another shape")
    for term in block.terms:
        if term.value not in uploaded:
            raise ValueError(f"block {block.name} reads {term.value!r}, which is not uploaded")
        shape = values[term.value].shape
        if (
            term.weight.ndim != 4
            or min(term.weight.shape) < 1
            or min(*term.stride, *term.dilation, term.groups) < 1
            or min(term.padding) < 0
            or max(*term.stride, *term.dilation, *term.padding, term.groups) > _FARTHEST
            or term.weight.shape[1] * term.groups != shape[0]
            or term.weight.shape[0] % term.groups
            or term.output_shape(shape) != block.shape
        ):
            told = f"{tuple(term.weight.shape)} on {shape}, not {block.shape}"
            raise ValueError(f"block {block.name}: weights {told}")
    if not (isfinite(block.scale) and block.scale > 0):
        raise ValueError(f"block {block.name} has a scale of {block.scale}")
    if bounds(block.terms, block.bias, values) != (block.low, block.high):
        raise ValueError(f"block {block.name} has other bounds than its weights give")
    if max(-block.low, block.high) >= _LARGEST:
        raise ValueError(f"block {block.name} has accumulators of more than 52 bits")


def _check_steps(steps: tuple[Step, ...], block: Block, value: Value) -> None:
    shape = block.shape
    for step in steps:
        if isinstance(step, MaxPool | SumPool):
            (down, across), (top, bottom, left, right) = step.kernel, step.padding
            sizes = (*step.kernel, *step.stride)
            if min(sizes) < 1 or min(step.padding) < 0 or max(*sizes, *step.padding) > _FARTHEST:
                raise ValueError(f"{value.name} is made with windows of no size")
            tall = (shape[1] + top + bottom - down) // step.stride[0] + 1
            shape = (shape[0], tall, (shape[2] + left + right - across) // step.stride[1] + 1)
        elif isinstance(step, Shift):
            if not 0 <= step.bits < 63 or step.low > step.high:
                raise ValueError(f"{value.name} is made with a shift of {step.bits} bits")
        elif isinstance(step, Table):
            rising = all(a < b for a, b in zip(step.thresholds, step.thresholds[1:], strict=False))
            if not rising or len(step.values) != len(step.thresholds) + 1:
                raise ValueError(f"{value.name} is made with a table that is none")
    if shape != value.shape:
        raise ValueError(f"{value.name} is {value.shape}, and {shape} are made")
    last = next((s for s in reversed(steps) if isinstance(s, Shift | Table)), None)
    if isinstance(last, Shift):
        ends = (last.low, last.high)
    elif isinstance(last, Table):
        ends = (min(last.values), max(last.values))
    else:
        raise ValueError(f"{value.name} is not clipped to its range")
    after = steps[steps.index(last) + 1 :]
    if any(isinstance(step, SumPool) for step in after) or not (
        value.low <= ends[0] and ends[1] <= value.high
    ):
        raise ValueError(f"{value.name} is made larger than it says")
