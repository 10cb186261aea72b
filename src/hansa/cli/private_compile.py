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
    from hansa.infer.private.compiling.planner import Plan
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

Hides = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What is shuffled: none, channel or element.",
        show_default="channel; element in packing rows, none in mode shares",
    ),
]
Insist = Annotated[
    bool, typer.Option("--insist", help="Take mode budget whatever it cannot count.")
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
    hides: Hides = None,
    insist: Insist = False,
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
        from hansa.infer.private.compiling.planner import plan
        from hansa.infer.private.compiling.program_file import program_path, write_program
        from hansa.infer.private.compiling.quantize import Bits

        _check_mode(mode, packing, hides)
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
            program, mode, profile_name=profile, packing=packing or "channel", hides=hides,  # type: ignore[arg-type]
            insist=insist,
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
        _rounds(answer, program)
        _certificate(answer, made)
        if "held_to" in facts:
            answer.line(
                f"held              sums to {facts['held_to']} bits, by coarser weights: "
                "--accumulator sets another width"
            )
        for key in ("accuracy_plain", "accuracy"):
            if key in facts:
                answer.line(f"{key.replace('_', ' '):<18}{facts[key]:.4f}")
        costs = plan(program, scheme, scheme.rows)
        answer.data["plan"] = costs.plain()
        _plan(answer, costs, 10.0, 20.0)
        answer.line(f"program           {file}, {file.stat().st_size:,} bytes")


def _check_mode(mode: str, packing: str | None, hides: str | None = None) -> None:
    from typing import get_args

    from hansa.infer.private.sessions import scheme

    for field, value, choices in (
        ("mode", mode, scheme.Mode), ("packing", packing, scheme.Packing),
        ("hides", hides, scheme.Hides),
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


def _rounds(answer: Answer, program: Program) -> None:
    """What each side does in each round."""
    from hansa.infer.private.client_steps import plain
    from hansa.infer.private.program import LOGITS
    from hansa.report.grid import Grid

    rows = []
    for at, one in enumerate(program.rounds):
        sent = [
            f"{name} {list(value.shape)}, {value.low} to {value.high}"
            for name, value in program.values.items()
            if name in one.uploads
        ]
        for made in one.activations:
            steps = [str(plain(step)["kind"]).replace("_", " ") for step in made.steps]
            does = (
                "reads the logits" if made.makes == LOGITS else f"{', '.join(steps)}: {made.makes}"
            )
            rows.append([str(at + 1), "; ".join(sent), made.block, does])
            sent = []
    heads = ["round", "client sends", "server sums", "client makes"]
    answer.table(Grid("What is done in each round", heads, rows, words=4))


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
    flooding = (
        "masks are uniform" if scheme.mode == "shares" else f"flooding 2^{made.flooding_bits}"
    )
    answer.line(
        f"noise             errors below 2^{made.residual_bits}, {flooding}, "
        f"wrong from 2^{made.room_bits}"
    )
    answer.line(f"failure           2^{made.failure_log2} a query")
    told = "0" if made.distance_log2 is None else f"2^{made.distance_log2}"
    answer.line(f"distance          {told} a coefficient (honest noise)")
    answer.line(f"security          {made.security}")


@app.command("plan")
def plan_(
    program: Annotated[
        Path,
        typer.Argument(
            metavar="PROGRAM", help="What hansa infer compile has written.", callback=home
        ),
    ],
    queries: Annotated[int, typer.Option(metavar="N", help="Rows that are asked.", min=1)] = 1,
    bandwidth: Annotated[float, typer.Option(metavar="MB/S", help="Of the link, each way.")] = 10.0,
    latency: Annotated[
        float, typer.Option(metavar="MS", help="Of the link, there and back.")
    ] = 20.0,
    mode: Mode = "shuffle",
    profile: ProfileName = None,
    packing: Packing = None,
    insist: Insist = False,
    again: Annotated[
        bool, typer.Option("--measure", help="Measure this machine's costs again.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the program with the scheme chosen.", callback=home
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Which scheme answers first over a link, and what each round of it costs, before it runs."""
    with answering(as_json, debug) as answer:
        from dataclasses import replace

        from hansa.infer.private.compiling import certificate, costs, planner
        from hansa.infer.private.compiling.program_file import (
            program_path,
            read_program,
            write_program,
        )
        from hansa.infer.private.rlwe.profiles import PROFILES

        _check_mode(mode, packing)
        if out is not None and program_path(out).exists():
            raise ConfigError("out", str(program_path(out)), "is there already", "another name")
        read = read_program(program)
        if again:
            for ring in PROFILES.values():
                costs.costs_of(ring, measure_again=True)
        chosen, left = planner.choose(
            read, mode, queries=queries, bandwidth=bandwidth, round_trip=latency,  # type: ignore[arg-type]
            profile_name=profile, packing=packing, insist=insist,  # type: ignore[arg-type]
        )  # fmt: skip
        made = certificate.certify(read, chosen.scheme)
        answer.data = {
            "plan": chosen.plain(),
            "left": [{"scheme": one, "why": why} for one, why in left],
            "certificate": made.plain(),
        }
        _certificate(answer, made)
        for one, why in left:
            answer.line(f"not {one:<18}{why}")
        _plan(answer, chosen, bandwidth, latency)
        if out is not None:
            facts = dict(read.facts) | {certificate.SCHEME: chosen.scheme.plain()}
            answer.line(f"program           {write_program(out, replace(read, facts=facts))}")


def _plan(answer: Answer, made: Plan, bandwidth: float, latency: float) -> None:
    """What a query will cost, before anybody asks."""
    from hansa.infer.private.compiling.planner import BANDWIDTHS, LATENCIES
    from hansa.report.grid import Grid

    rows = [
        [str(one.round), ", ".join(one.blocks), f"{one.up:,}", f"{one.down:,}",
         f"{1000 * one.server:.2f}", f"{1000 * one.client:.2f}"]
        for one in made.steps
    ]  # fmt: skip
    server, client = (
        sum(getattr(one, side) for one in made.steps) for side in ("server", "client")
    )
    rows.append(
        [
            "all",
            "",
            f"{made.up:,}",
            f"{made.down:,}",
            f"{1000 * server:.2f}",
            f"{1000 * client:.2f}",
        ]
    )
    heads = ["round", "blocks", "bytes up", "bytes down", "server, ms", "client, ms"]
    title = "A query" if made.rows == 1 else f"A query of {made.rows} rows"
    answer.table(Grid(f"{title}, before it runs", heads, rows, words=1))
    table = [
        [f"{speed:g} MB/s", *(_seconds(made.latency(speed, trip)) for trip in LATENCIES)]
        for speed in BANDWIDTHS
    ]
    heads = ["link", *(f"{trip:g} ms" for trip in LATENCIES)]
    answer.table(Grid("Seconds that it takes, by the link's speed and round trip", heads, table))
    up, down = made.opening
    answer.line(
        f"session           {up:,} bytes up, {down:,} down, {made.prepare:.2f} s, once; "
        f"{made.memory / 1e6:.1f} MB of weights at the server"
    )
    answer.line(
        f"here              {_seconds(made.latency(bandwidth, latency))} s a query at "
        f"{bandwidth:g} MB/s and {latency:g} ms; bytes are exact, times are of one thread on this "
        "machine and hold within a factor of two"
    )


def _seconds(time: float) -> str:
    return f"{time:.3g}"
