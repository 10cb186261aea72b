"""All the settings of a sweep: every combination of a grid, rows of a zip, and random draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.experiment.sweep.values import Range, Values

Changes = dict[str, Any]
"""What makes a setting of the file that is swept: a value by its dotted name."""


def changes_of(
    grid: Mapping[str, Values],
    together: Mapping[str, Values],
    random: Mapping[str, Range | Values],
    samples: int | None,
    seed: int,
) -> list[Changes]:
    """What makes each setting, in order; none is there twice.

    Args:
        grid: each value of one with each value of all others.
        together: the first values of all of them, then the second ones ...
        random: drawn, each from a stream of its own: what one draws depends on no other, and more
            samples begin with the same ones.
        samples: how often.
        seed: names the streams.

    Raises:
        ConfigError: a setting is in two of them, what goes together is not equally long, or it is
            not said how often to draw.
    """
    for field in [*together, *random]:
        homes = [name for name, of in _named(grid, together, random) if field in of]
        if len(homes) > 1:
            problem = f"is in {' and in '.join(homes)}"
            raise ConfigError(field, None, problem, "each setting in one of them")
    lengths = {field: len(values.values) for field, values in together.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{field} has {count}" for field, count in lengths.items())
        raise ConfigError("zip", None, f"goes together row by row, and {counts}", "equally many")
    if random and samples is None:
        raise ConfigError("samples", None, "says how often to draw", "such as 20")
    if samples is not None and not random:
        problem = "says how often to draw, and nothing is random"
        raise ConfigError("samples", samples, problem, "random: {train.optimizer.lr: 0.01..0.1}")
    fields = sorted([*grid, *together, *random], key=lambda field: field.count("."))
    every: dict[str, Changes] = {}  # by what they are called: 1 is not True
    for crossed, row, drawn in itertools.product(
        _crossed(grid), _rows(together), _drawn(random, samples or 0, seed)
    ):
        whole = {**crossed, **row, **drawn}
        ordered = {field: whole[field] for field in fields}  # a part before what is in it
        every.setdefault(repr(ordered), ordered)
    return list(every.values())


def how_many(
    grid: Mapping[str, Values],
    together: Mapping[str, Values],
    random: Mapping[str, Range | Values],
    samples: int | None,
) -> int:
    """How many settings there are at most, without making any of them."""
    crossed = math.prod(len(values.values) for values in grid.values())
    rows = min((len(values.values) for values in together.values()), default=1)
    return crossed * rows * ((samples or 1) if random else 1)


def _named(*of: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from zip(("grid", "zip", "random"), of, strict=True)


def _crossed(grid: Mapping[str, Values]) -> list[Changes]:
    rows = itertools.product(*(values.values for values in grid.values()))
    return [dict(zip(grid, row, strict=True)) for row in rows]


def _rows(together: Mapping[str, Values]) -> list[Changes]:
    if not together:
        return [{}]
    rows = zip(*(values.values for values in together.values()), strict=True)
    return [dict(zip(together, row, strict=True)) for row in rows]


def _drawn(random: Mapping[str, Range | Values], samples: int, seed: int) -> list[Changes]:
    if not random:
        return [{}]
    streams = Streams(seed)
    columns: Changes = {}
    for field, of in random.items():
        stream = streams.numpy(f"sweep {field}")
        draws = [
            of.draw(stream) if isinstance(of, Range) else of.values[stream.integers(len(of.values))]
            for _ in range(samples)
        ]
        columns[field] = draws
    return [{field: draws[k] for field, draws in columns.items()} for k in range(samples)]
