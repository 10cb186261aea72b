"""``hansa infer private keygen``, ``serve`` and ``client``: private inference over a network."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import Answer, answering
from hansa.cli.options import Debug, Json, Quiet, home

if TYPE_CHECKING:
    from hansa.infer.private.protocol.model_service import ModelService
    from hansa.infer.private.protocol.private_client import Predictions

app = typer.Typer()

At = Annotated[str, typer.Option("--at", help="Address and port.", metavar="HOST:PORT")]
_SHOWN = 20
"""Predictions that are printed where they go to no file."""


@app.command("keygen")
def keygen(
    out: Annotated[
        Path,
        typer.Option("--out", help="The folder to put them in.", metavar="DIR", callback=home),
    ],
    role: Annotated[str, typer.Option(help="Whose: server or client.", metavar="ROLE")] = "server",
    days: Annotated[int, typer.Option(help="How long they hold.", min=1, max=3650)] = 825,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a private key and the certificate that the other side pins.

    The certificate (.crt.pem) may be given to anybody, the key never. The keys of the encryption
    itself are made anew for every session.
    """
    with answering(as_json, debug) as answer:
        from hansa.infer.private.protocol.pins import ROLES, make_identity

        chosen = next((one for one in ROLES if one == role), None)
        if chosen is None:
            raise ConfigError("role", role, "is none", "server or client")
        made = make_identity(out, chosen, days)
        answer.data = {
            "role": role,
            "certificate": str(made.certificate),
            "key": str(made.key),
            "fingerprint": made.fingerprint,
        }
        other = "clients pin" if role == "server" else "a server may ask for"
        answer.line(f"certificate  {made.certificate}, which {other}")
        answer.line(f"key          {made.key}, which is yours alone")
        answer.line(f"fingerprint  {made.fingerprint}")


@app.command("serve")
def serve(
    program: Annotated[
        Path,
        typer.Argument(metavar="PROGRAM", help="What hansa infer compile wrote.", callback=home),
    ],
    keys: Annotated[
        Path,
        typer.Option("--keys", help="What keygen made.", metavar="DIR", callback=home),
    ],
    state: Annotated[
        Path,
        typer.Option(
            "--state",
            help="Where sessions and counts are kept; a server that is started again goes on.",
            metavar="DIR",
            callback=home,
        ),
    ],
    at: At = "127.0.0.1:7443",
    clients: Annotated[
        Path | None,
        typer.Option(
            "--clients",
            help="A folder with the certificates of those who may ask.",
            metavar="DIR",
            show_default="whoever reaches this machine's own address",
            callback=home,
        ),
    ] = None,
    anyone: Annotated[
        bool, typer.Option("--anyone", help="Let whoever reaches the address ask.")
    ] = False,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode",
            help="shuffle, budget or shares.",
            metavar="NAME",
            show_default="the program's",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="n4096, n2048 or n8192.", metavar="NAME"),
    ] = None,
    packing: Annotated[
        str | None, typer.Option("--packing", help="channel, batch or rows.", metavar="NAME")
    ] = None,
    hides: Annotated[
        str | None, typer.Option("--hides", help="none, channel or element.", metavar="WHAT")
    ] = None,
    reveals: Annotated[
        str | None, typer.Option("--reveals", help="logits or class.", metavar="WHAT")
    ] = None,
    session_queries: Annotated[
        int, typer.Option("--quota", help="Queries of a session.", metavar="N")
    ] = 100_000,
    client_queries: Annotated[
        int, typer.Option("--client-quota", help="Queries of a client, in all.", metavar="N")
    ] = 10_000_000,
    client_sessions: Annotated[
        int, typer.Option("--sessions", help="Sessions of a client at a time.", metavar="N")
    ] = 64,
    idle_s: Annotated[
        float, typer.Option("--idle", help="Seconds after which a session expires.", metavar="S")
    ] = 3600.0,
    budget: Annotated[
        float,
        typer.Option(
            "--budget",
            help="Mode budget: the share of a layer's weights of which equations may be told.",
            metavar="X",
        ),
    ] = 0.5,
    threads: Annotated[int, typer.Option(help="Threads of one answer.", min=1)] = 1,
    workers: Annotated[
        int | None,
        typer.Option(help="Answers at a time.", min=1, show_default="the number of cores"),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Serve a compiled program to clients that keep their data: it learns sizes, nothing else.

    Says when it is ready; with --json as a line {"ready": true, "port": ...}. Ends at SIGTERM or
    Ctrl-C once what is under way is answered; sessions go on when it is started again.
    """
    out = sys.stdout
    with answering(as_json, debug) as answer:
        from hansa.infer.private.protocol.allowances import Quotas
        from hansa.infer.private.protocol.dialing import address_of
        from hansa.infer.private.protocol.pins import clients_in, identity_in

        host, port = address_of(at)
        _open_to(host, clients, anyone)
        identity = identity_in(keys, "server")
        known = None if clients is None else clients_in(clients)
        quotas = Quotas(
            session_queries=session_queries,
            client_queries=client_queries,
            client_sessions=client_sessions,
            idle_s=idle_s,
            budget=budget,
        )
        said = {"profile_name": profile, "packing": packing, "hides": hides, "reveals": reveals}
        facts: dict[str, Any] = {"fingerprint": identity.fingerprint}

        def served() -> ModelService:
            service = _service(program, mode, said, threads)
            facts.update(program=service.digest.hex(), scheme=json.loads(service.scheme))
            return service

        def ready(port: int) -> None:
            if as_json:
                line = {"ready": True, "host": host, "port": port, **facts}
                print(json.dumps(line), file=out, flush=True)
            else:
                answer.line(f"ready        at {host}:{port}, mode {facts['scheme']['mode']}")
                answer.line(f"fingerprint  {identity.fingerprint}")

        from hansa.infer.private.protocol.private_server import PrivateServer, listen

        answer.data = listen(
            served,
            lambda desk: PrivateServer(desk, identity, known, workers=workers),
            state, quotas, (host, port), known is not None, ready,
        )  # fmt: skip
        answer.line(
            f"{answer.data['queries']} queries answered in {answer.data['sessions']} sessions"
        )


@app.command("client")
def client(
    inputs: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="Rows as the network reads them: .npy, .npz, .safetensors, or a table of numbers.",
            callback=home,
        ),
    ],
    trust: Annotated[
        str,
        typer.Option(
            "--trust", help="The server's certificate, or its fingerprint.", metavar="FILE|SHA256"
        ),
    ],
    at: At = "127.0.0.1:7443",
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys", help="This client's certificate and key.", metavar="DIR", callback=home
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Predictions: .npz, .csv or .json.", metavar="FILE", callback=home
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            help="Where the session is kept, so that --resume can go on with it.",
            metavar="DIR",
            callback=home,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the session that --state holds.")
    ] = False,
    stored: Annotated[
        bool,
        typer.Option(
            "--stored", help="Rows are as the data are stored: scale them as in training first."
        ),
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads of the encryption.", min=1)] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Ask a private server about a file's rows: they never leave this machine in the clear.

    A lost server is sought again for a minute. With --state the session survives the end of this
    process too.
    """
    with answering(as_json, debug) as answer:
        from hansa.infer.private.protocol.dialing import address_of
        from hansa.infer.private.protocol.pins import identity_in, pin_of
        from hansa.infer.private.protocol.row_files import check_input, check_output, read_rows

        address, pin = address_of(at), pin_of(trust)
        identity = None if keys is None else identity_in(keys, "client")
        check_input(inputs)
        if out is not None:
            check_output(out)
        if resume and state is None:
            raise ConfigError("resume", True, "takes a folder that holds a session", "--state DIR")
        rows = read_rows(inputs)
        from hansa.base.telling import say
        from hansa.infer.private.protocol.asked_file import ask_file
        from hansa.infer.private.rlwe.freed_memory import keep_freed

        def told(done: int, count: int) -> None:
            if not quiet and sys.stderr.isatty():
                say(f"{done} of {count} rows")

        keep_freed()
        asked = ask_file(
            rows, inputs, out, address, pin, identity, state, resume, threads, stored, told
        )
        answer.data = asked.facts
        _predictions(answer, asked.predictions, asked.names, "classes" in asked.facts, out)


def _open_to(host: str, clients: Path | None, anyone: bool) -> None:
    from hansa.serving.listening import is_loopback

    if clients is None and not anyone and not is_loopback(host):
        fix = "--clients DIR, a folder of certificates; or --anyone"
        raise ConfigError("at", host, "is open to others, who would show no certificate", fix)


def _service(program: Path, mode: str | None, said: dict[str, Any], threads: int) -> ModelService:
    """The program as a service, warm."""
    from hansa.infer.private.compiling.certificate import choose_scheme, scheme_of
    from hansa.infer.private.compiling.program_file import read_program
    from hansa.infer.private.protocol.model_service import ModelService
    from hansa.infer.private.rlwe.freed_memory import keep_freed

    read = read_program(program)
    scheme = scheme_of(read)
    if mode is not None or any(value is not None for value in said.values()):
        more: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        chosen: Any = mode or scheme.mode
        scheme = choose_scheme(read, chosen, **{"profile_name": scheme.profile, **more})
    keep_freed()
    service = ModelService(read, scheme, threads)
    service.warm()
    return service


def _predictions(
    answer: Answer, made: Predictions, names: list[str], classes: bool, out: Path | None
) -> None:
    from hansa.report.grid import Grid

    if out is None:
        rows = [[str(k), name] for k, name in enumerate(names[:_SHOWN])]
        heads = ["row", "class" if classes else "value"]
        answer.table(Grid("Predictions", heads, rows, words=2))
        if len(names) > _SHOWN:
            answer.line(f"... and {len(names) - _SHOWN} more; --out FILE writes all")
    else:
        answer.line(f"predictions  {out}, {len(names)} rows")
    traffic = made.traffic
    answer.line(
        f"cost         {made.wall_s:.2f} s, of which {made.compute_s:.2f} computing here; "
        f"{traffic.bytes_up / 1e6:.2f} MB up, {traffic.bytes_down / 1e6:.2f} MB down in "
        f"{made.requests} requests"
    )
