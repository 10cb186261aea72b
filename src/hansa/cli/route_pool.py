"""``hansa route compress``: a pool of adapters becomes a few, within a budget of bytes."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, Quiet, home
from hansa.cli.running import heed_sigterm


class Unit(StrEnum):
    """What two adapters share or do not."""

    adapter = "adapter"
    layer = "layer"
    sublayer = "sublayer"
    module = "module"


class Stored(StrEnum):
    """The type of the factors that are written."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


_DTYPES = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}

PoolFolder = Annotated[
    Path,
    typer.Argument(
        metavar="POOL", help="A folder of adapters, each as PEFT writes it.", callback=home
    ),
]
Budget = Annotated[
    str, typer.Option(help="Bytes of all files of factors together: 20MB, 1.5GiB.", metavar="SIZE")
]
NewFolder = Annotated[
    Path, typer.Option("--out", help="The folder to make.", metavar="DIR", callback=home)
]
Rank = Annotated[
    int | None,
    typer.Option(
        help="Rank of a merged adapter at most.", metavar="R", show_default="the largest of any"
    ),
]
Scale = Annotated[
    float, typer.Option(help="What the mean of a group is multiplied with.", metavar="X")
]
Share = Annotated[Unit, typer.Option(help="What adapters share: all of it, or parts of layers.")]
Dtype = Annotated[Stored, typer.Option(help="The type of the factors that are written.")]


def compress(
    pool: PoolFolder,
    budget: Budget,
    out: NewFolder,
    rank: Rank = None,
    share: Share = Unit.adapter,
    scale: Scale = 1.0,
    dtype: Dtype = Stored.fp32,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Merge the adapters of a pool that are alike until all fit a budget (FlexMerge)."""
    with answering(as_json, debug) as answer:
        heed_sigterm()
        from hansa.base.byte_size import byte_size
        from hansa.combine.merge.lora_pool import Pool, PoolSpectrum
        from hansa.experiment.progress import Steps
        from hansa.report.grid import Grid
        from hansa.route.pool_loading import folders_of
        from hansa.weights.lora_folder import LoraFolder
        from hansa.weights.staging import refuse_existing

        wanted = byte_size(budget)
        refuse_existing(out)
        adapters = [
            replace(LoraFolder.open(folder), name=name) for name, folder in folders_of(pool).items()
        ]
        whole = Pool.of(adapters, share.value, _DTYPES[dtype])
        with Steps(quiet) as steps:
            spectrum = PoolSpectrum.of(whole, rank, scale, say=steps)
            made = spectrum.write(out, wanted, steps)
        facts = made.plan.facts
        groups = [group for block in made.plan.blocks for group in block.groups]
        answer.data = {
            "adapters": len(adapters),
            "folders": len(groups),
            "bytes": facts["bytes"],
            "budget": wanted,
            "whole_bytes": spectrum.bytes[0],
            "least_bytes": min(spectrum.bytes),
            "rank": facts["rank"],
            "merges": facts["merges"],
            "worst_error": max(facts["errors"].values()),
            "out": str(out),
        }
        names = [name for names in made.names.values() for name in names]
        rows = [
            [name, str(len(group.members)), f"{facts['errors'][name]:.1%}"]
            for name, group in sorted(
                zip(names, groups, strict=True), key=lambda pair: -len(pair[1].members)
            )
        ]
        heads = ["folder", "adapters in it", "lost to the rank"]
        answer.table(Grid(f"{len(adapters)} adapters in {len(rows)} folders", heads, rows[:20]))
        if len(rows) > 20:
            answer.line(f"and {len(rows) - 20} more folders")
        answer.line(f"{facts['bytes']} of {wanted} bytes; before: {spectrum.bytes[0]}")
        answer.line(f"the folders to route over: {out / 'adapters'}")
