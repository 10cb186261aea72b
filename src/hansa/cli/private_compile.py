"""``hansa infer compile`` and ``private plan``: a network as integers, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import Answer, answering
from hansa.cli.options import Debug, Json, home

if TYPE_CHECKING:
    from hansa.infer.private.compiling.certificate import Certificate
    from hansa.infer.private.program import Program

app = typer.Typer()

SourceText = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A run of hansa learn, a file of hansa export, or package.module:Class.",
    ),
]
Mode = Annotated[
    str, typer.Option(metavar="NAME", help="What is hidden how: shuffle, budget or shares.")
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Of the ring: n2048, n4096 or n8192.",
        show_default="the smallest that hides and holds",
    ),
]
Packing = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of numbers in polynomials: channel, batch or rows.",
        show_default="channel",
    ),
]


@app.command("compile")
def compile_(
    source: SourceText,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The program to write.", callback=home)
    ],
    weights: Annotated[int, typer.Option(metavar="BITS", help="Of a weight.")] = 8,
    activations: Annotated[int, typer.Option(metavar="BITS", help="Of what layers make.")] = 7,
    accumulator: Annotated[
        int | None,
        typer.Option(metavar="BITS", help="At most so many in a sum, at coarser weights."),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Examples as the network reads them, to choose scales by: .npy, or .npz with rows "
            "and perhaps labels.",
            show_default="the run's",
            callback=home,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="N,N,N", help="Of an example, where there are no rows."),
    ] = None,
    node: Annotated[
        int | None, typer.Option(metavar="ID", help="Whose model, where there are several.")
    ] = None,
    average: Annotated[
        bool, typer.Option("--average", help="The average of all nodes' models.")
    ] = False,
    arguments: Annotated[
        str | None, typer.Option(metavar="JSON", help="Of the class at an import path, by name.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The network's tensors: .safetensors, or a cut.", callback=home
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Whose model of a cut.")] = None,
    a2q: Annotated[
        int,
        typer.Option("--a2q", metavar="EPOCHS", help="Train on with sums held to --accumulator."),
    ] = 0,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run code that a run names by import path.")
    ] = False,
    mode: Mode = "shuffle",
    profile: ProfileName = None,
    packing: Packing = None,
    insist: Annotated[
        bool, typer.Option("--insist", help="Take mode budget whatever it cannot count.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A network as a program of integers in rounds, that private inference serves.

    Says what became of each layer, that answers are exact, and what a query will cost.
    """
    with answering(as_json, debug) as answer:
        from dataclasses import replace

        from hansa.infer.private.compiling import certificate
        from hansa.infer.private.compiling.building import build
        from hansa.infer.private.compiling.program_file import program_path, write_program
        from hansa.infer.private.compiling.quantize import Bits

        _check_mode(mode, packing)
        bits = Bits(weights, activations, accumulator=accumulator)
        file = program_path(out)
        if file.exists():
            raise ConfigError("out", str(file), "is there already", "another name")
        built = build(
            source, bits, rows=rows, shape=_shape(shape), node=node, average=average,
            arguments=arguments, state=_state(state, task), trust=trust, epochs=a2q,
        )  # fmt: skip
        program = built.program
        scheme = certificate.choose_scheme(
            program, mode, profile_name=profile, packing=packing or "channel", insist=insist,  # type: ignore[arg-type]
        )  # fmt: skip
        made = certificate.certify(program, scheme)
        facts = dict(program.facts) | {certificate.SCHEME: scheme.plain()}
        file = write_program(out, replace(program, facts=facts))
        answer.data = {
            "file": str(file),
            "bytes": file.stat().st_size,
            "rounds": len(program.rounds),
            "facts": facts,
            "certificate": made.plain(),
        }
        _layers(answer, program)
        _certificate(answer, made)
        for key in ("accuracy_plain", "accuracy"):
            if key in facts:
                answer.line(f"{key.replace('_', ' '):<18}{facts[key]:.4f}")
        _plan(answer, program, made, 1, None, None)
        answer.line(f"program           {file}, {file.stat().st_size:,} bytes")


def _check_mode(mode: str, packing: str | None) -> None:
    from typing import get_args

    from hansa.infer.private.sessions import scheme

    for field, value, choices in (
        ("mode", mode, scheme.Mode), ("packing", packing, scheme.Packing),
    ):  # fmt: skip
        if value is not None and value not in get_args(choices):
            fix = f"one of {', '.join(get_args(choices))}"
            raise ConfigError(field, value, "is not known", fix)


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise ConfigError("shape", text, "is no shape of an example", "such as 1,28,28 or 784")
    return shape


def _state(file: Path | None, task: str | None) -> Any:
    """Tensors by name, of a safetensors file or of one task of a cut."""
    if file is None:
        return None
    if task is not None:
        from hansa.combine.merge.merged_models import MergedModels

        return MergedModels.open(file).state_dict(task)
    from hansa.infer.private.compiling.sources import read_state

    return read_state(file)


def _layers(answer: Answer, program: Program) -> None:
    from hansa.report.grid import Grid

    told = program.facts.get("layers", [])
    rows = [[str(part) for part in one] for one in told]  # type: ignore[attr-defined]
    answer.table(Grid("What became of each layer", ["layer", "kind", "became"], rows, words=3))


def _certificate(answer: Answer, made: Certificate) -> None:
    from hansa.report.grid import Grid

    rows = [
        [one.name, str(one.round), f"{one.low:,}", f"{one.high:,}", str(one.bits), f"{one.norm:,}"]
        for one in made.blocks
    ]
    heads = ["block", "round", "least", "largest", "bits", "weights' size"]
    answer.table(Grid("Accumulators, whatever the input is", heads, rows, words=1))
    scheme = made.scheme
    answer.line(f"mode              {scheme.mode}, packing {scheme.packing}, hides {scheme.hides}")
    answer.line(f"plaintext         {made.plain_bits} bits; accumulators {made.accumulator_bits}")
    answer.line(
        f"noise             errors below 2^{made.residual_bits}, flooding 2^{made.flooding_bits}, "
        f"wrong from 2^{made.room_bits}"
    )
    answer.line(f"failure           2^{made.failure_log2} a query")
    told = "0: masks are uniform" if made.distance_log2 is None else f"2^{made.distance_log2}"
    answer.line(f"distance          {told} a coefficient (honest noise)")
    answer.line(f"security          {made.security}")


def _plan(
    answer: Answer,
    program: Program,
    made: Certificate,
    queries: int,
    bandwidth: float | None,
    latency: float | None,
) -> None:
    """What a query will cost, before anybody asks."""
