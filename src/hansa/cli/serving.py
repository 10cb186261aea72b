"""``hansa infer serve`` and ``hansa infer member``: models on a port (Open Inference Protocol)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import Answer, answering
from hansa.cli.options import Debug, Json, Plugins, Sets

if TYPE_CHECKING:
    from hansa.infer.robust.score_aggregator import ScoreAggregator
    from hansa.infer.serving.member_model import MemberModel
    from hansa.infer.serving.serve_file import ServeFile
    from hansa.infer.serving.v2_messages import ServedModel
    from hansa.serving.listening import Listening

Host = Annotated[str, typer.Option(help="The address to listen on.", metavar="ADDRESS")]
Port = Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)]
TokenEnv = Annotated[
    str | None,
    typer.Option(help="Environment variable with the token to ask for.", metavar="NAME"),
]
Cert = Annotated[
    Path | None, typer.Option("--tls-cert", help="Certificate, as PEM.", metavar="FILE")
]
Key = Annotated[
    Path | None, typer.Option("--tls-key", help="Its private key, as PEM.", metavar="FILE")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Let others ask without a token.")]


def serve(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Members, aggregator and deadlines.")
    ],
    sets: Sets = None,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    token_env: TokenEnv = None,
    tls_cert: Cert = None,
    tls_key: Key = None,
    insecure: Insecure = False,
    plugin: Plugins = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run code that an ensemble names by import path.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask many members and answer once: robust to some that lie, certified where it can be.

    Ends at SIGTERM or Ctrl-C once what is under way is answered.
    """
    with answering(as_json, debug) as answer:
        from hansa.infer.serving.serve_file import ServeFile
        from hansa.infer.serving.serve_model import aggregate_of
        from hansa.serving.listening import Listening, needs_libraries

        needs_libraries()
        more = {"plugins": plugin} if plugin else {}
        chosen = ServeFile.load(file, tuple(sets or ()), **more)
        limit = int(chosen.body_mb * 2**20)
        where = Listening(host, port, token_env, tls_cert, tls_key, insecure, limit)
        where.checked()
        _serve(answer, aggregate_of(*opened(chosen, trust)), where)


def member(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A run of hansa learn, hansa combine ensemble or hansa infer robust; what hansa "
            "export wrote (NAME.safetensors).",
        ),
    ],
    port: Port = 8001,
    client: Annotated[
        int | None,
        typer.Option(
            "--client",
            "--node",
            metavar="N",
            help="Whose model, where there are several; of an ensemble none: all as one.",
        ),
    ] = None,
    average: Annotated[
        bool, typer.Option("--average", help="The average of all nodes' models of a run.")
    ] = False,
    name: Annotated[str, typer.Option(help="What the model is called.", metavar="NAME")] = "member",
    host: Host = "127.0.0.1",
    token_env: TokenEnv = None,
    tls_cert: Cert = None,
    tls_key: Key = None,
    insecure: Insecure = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run code that an ensemble names by import path.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Put one trained model on a port, for ``hansa infer serve`` or any client of the protocol.

    It takes inputs as its data store them. Ends at SIGTERM or Ctrl-C.
    """
    with answering(as_json, debug) as answer:
        from hansa.serving.listening import Listening

        where = Listening(host, port, token_env, tls_cert, tls_key, insecure)
        where.checked()
        _serve(answer, _member(source.expanduser(), name, client, average, trust), where)


def _serve(answer: Answer, model: ServedModel, where: Listening) -> None:
    from hansa.base.telling import say
    from hansa.infer.serving.v2_app import serve as listen

    def started(url: str) -> None:
        text = f"{model.name} answers at {url}/v2/models/{model.name}/infer"
        say(text) if answer.as_json else answer.line(text)

    answer.data = listen(model, where, started)
    answer.line(f"{answer.data['requests']} requests answered")


def _member(source: Path, name: str, client: int | None, average: bool, trust: bool) -> MemberModel:
    from hansa.infer.robust.rule_store import CARD, FOLDER
    from hansa.infer.serving.member_sources import from_export, from_robust_run, from_run

    if not source.exists():
        raise ConfigError("source", str(source), "there is no such file or folder", "a run")
    if source.suffix == ".safetensors" and source.is_file():
        if client is not None or average:
            raise ConfigError("client", client, "is for runs of several models", "leave it out")
        return from_export(source, name)
    if not source.is_dir():
        fix = "a run's folder, or NAME.safetensors of hansa export"
        raise ConfigError("source", str(source), "is of no known kind", fix)
    if (folder := _ensemble_folder(source)) is not None:
        return _of_ensemble(folder, name, client, trust)
    if (source / FOLDER / CARD).is_file():
        return from_robust_run(source, name, client, trust)
    return from_run(source, name, client, average)


def _ensemble_folder(source: Path) -> Path | None:
    """Where the card of an ensemble lies, in a run's folder or in its own."""
    from hansa.combine.ensemble.store import CARD

    return next((p for p in (source, source / "ensemble") if (p / CARD).is_file()), None)


def _of_ensemble(folder: Path, name: str, client: int | None, trust: bool) -> MemberModel:
    """One client's model of an ensemble, or all of them with their rule."""
    from hansa.combine.ensemble.store import load, load_members
    from hansa.infer.serving.member_model import MemberModel

    whole = load(folder, trust)
    spec, class_names = whole.spec, whole.card["class_names"]
    if client is None:
        scorer: Any = lambda x: whole(whole.prepared(x))  # noqa: E731
        return MemberModel(name, spec, scorer, class_names, signature=whole.signature)
    members = {m.client: m for m in load_members(folder, spec, trust)}
    if client not in members:
        fix = f"one of {', '.join(map(str, members))}"
        raise ConfigError("client", client, "is none of the ensemble's", fix)
    own = members[client]
    entry = next(e for e in whole.card["members"] if int(e["client"]) == client)
    aligned: dict[str, Any] | None = entry.get("scores")
    alignment = None
    kind = own.kind or "logits"
    if aligned is not None:
        from hansa.ensemble.alignment import Alignment

        alignment = Alignment(aligned["kind"], float(aligned["factor"]))
        kind = alignment.kind
    return MemberModel(
        name, spec, lambda x: own.asked(whole.prepared(x)), class_names, kind, alignment,
        whole.signature,
    )  # fmt: skip


def opened(
    chosen: ServeFile, trust: bool
) -> tuple[ServeFile, ScoreAggregator | None, tuple[str, ...]]:
    """A file with what its run or ensemble says, what makes one of the members' answers where they
    bring it, and the classes."""
    if chosen.run is not None:
        from hansa.infer.robust.rule_store import card_of, load_aggregator

        card = card_of(chosen.run)
        if chosen.f is None:
            chosen = type(chosen).parse({**chosen.dump(), "f": int(card["f"])})
        names = tuple(map(str, card["class_names"] or range(int(card["classes"]))))
        assert chosen.run is not None
        return chosen, load_aggregator(chosen.run, chosen.pick, trust), names
    if chosen.ensemble is not None:
        from hansa.combine.ensemble.store import load
        from hansa.infer.serving.ensemble_rule import RuleScores

        folder = _ensemble_folder(chosen.ensemble)
        if folder is None:
            fix = "a run of hansa combine ensemble"
            raise ConfigError("ensemble", str(chosen.ensemble), "holds no ensemble", fix)
        whole = load(folder, trust)
        names = tuple(map(str, whole.card["class_names"] or range(whole.spec.classes)))
        return chosen, RuleScores(whole.rule, whole.panel, whole.sees_input), names
    return chosen, None, ()
