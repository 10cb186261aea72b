"""From what a person names to a program: open it, choose examples, quantize, measure accuracy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError, HansaWarning
from hansa.base.lazy import torch
from hansa.infer.private.compiling.compiler import Compiled, compile_network
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.compiling.sources import (
    Source,
    made_up,
    open_source,
    prepare_fact,
    read_arguments,
    with_rows,
)
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.program import Program

if TYPE_CHECKING:
    from torch import Tensor, nn

_AT_ONCE = 250
_FAR = 0.5
"""An error of rounding that is warned of."""
HELD = 22
"""Bits of an accumulator that every packing and mode takes: longer sums are held to so many."""


def build(
    source: str,
    bits: Bits,
    *,
    rows: Path | None = None,
    shape: tuple[int, ...] | None = None,
    node: int | None = None,
    average: bool = False,
    arguments: str | None = None,
    state: Mapping[str, Tensor] | None = None,
    trust: bool = False,
    epochs: int = 0,
) -> Compiled:
    """The program of what a text names, with its accuracy where examples have classes.

    Raises:
        CheckpointError, ConfigError, DataError: what is named cannot be opened or compiled.
    """
    opened = open_source(
        source, node=node, average=average, arguments=read_arguments(arguments), state=state,
        trust=trust,
    )  # fmt: skip
    return build_of(with_rows(opened, rows), bits, shape, epochs)


def build_of(
    opened: Source, bits: Bits, shape: tuple[int, ...] | None = None, epochs: int = 0
) -> Compiled:
    """The program of a network that was opened.

    Args:
        epochs: in which its weights are trained for the accumulators that ``bits`` names.
    """
    if epochs < 0 or (epochs and bits.accumulator is None):
        problem, fix = "trains for accumulators of no width", "--accumulator BITS"
        raise ConfigError("a2q", epochs, problem, fix)
    facts: dict[str, object] = {"source": opened.name, **prepare_fact(opened.prepare)}
    examples = opened.rows
    if examples is None:
        wanted = shape or opened.shape
        if wanted is None:
            problem = "does not tell what its network reads"
            raise ConfigError("source", opened.name, problem, "rows of it (--rows), or --shape")
        warnings.warn(
            "scales are chosen on made-up rows: accuracy may suffer; give rows of the network's "
            "kind (--rows)",
            HansaWarning,
            stacklevel=2,
        )
        examples, facts["calibration"] = made_up(tuple(wanted)), "made up"
    classes = tuple(opened.classes)
    made = lambda width: compile_network(  # noqa: E731
        opened.network, examples, width, classes=classes, facts=facts, epochs=epochs
    )
    compiled = made(bits)
    if bits.accumulator is None and compiled.program.accumulator_bits > HELD:
        facts["held_to"] = HELD
        compiled = made(replace(bits, accumulator=HELD))
    error = round(rounding_error(compiled, examples[:_AT_ONCE]), 6)
    compiled = _with_facts(compiled, {"rounding_error": error})
    if error > _FAR:
        text = (
            f"the integers differ from the network by {error:.0%} of what its outputs vary by: "
            "more bits (--weights, --activations), rows of its kind (--rows), or it has functions "
            "that jump where they are rounded"
        )
        warnings.warn(HansaWarning(text), stacklevel=2)
    if opened.tests is None:
        return compiled
    tests, labels = opened.tests
    told: dict[str, object] = {
        "accuracy_plain": round(plain_accuracy(opened.network, tests, labels), 6),
        "accuracy": round(accuracy(compiled.program, tests, labels), 6),
        "tested_on": len(labels),
    }
    return _with_facts(compiled, told)


def _with_facts(compiled: Compiled, facts: dict[str, object]) -> Compiled:
    program = replace(compiled.program, facts=dict(compiled.program.facts) | facts)
    return replace(compiled, program=program)


def rounding_error(compiled: Compiled, rows: np.ndarray) -> float:
    """How far the integers' outputs are from the network's, by the deviation of these.

    Root mean square over rows [n, *shape] and outputs; 0 where the outputs do not vary.
    """
    program = compiled.program
    with torch.no_grad():
        images = torch.from_numpy(np.asarray(rows, np.float64))
        real = compiled.net(images.reshape(len(rows), *program.input.shape)).numpy()
    real = real.reshape(len(rows), -1)
    made = evaluate(program, read_rows(program, rows)) * program.logits.scale
    spread = float(real.std())
    return float(np.sqrt(np.square(made - real).mean())) / spread if spread > 0 else 0.0


def accuracy(program: Program, rows: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows whose largest logit, in the clear, is their class's."""
    right = 0
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        logits = evaluate(program, read_rows(program, some))
        right += int((logits.argmax(1) == labels[start : start + _AT_ONCE]).sum())
    return right / len(rows)


def plain_accuracy(network: nn.Module, rows: np.ndarray, labels: np.ndarray) -> float:
    """The same of the network itself."""
    right = 0
    with torch.no_grad():
        for start in range(0, len(rows), _AT_ONCE):
            some = torch.from_numpy(np.ascontiguousarray(rows[start : start + _AT_ONCE]))
            made = network(some).reshape(len(some), -1).argmax(1).numpy()
            right += int((made == labels[start : start + _AT_ONCE]).sum())
    return right / len(rows)
