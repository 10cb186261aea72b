"""``hansa route serve`` and ``hansa route ask``: a routed pool on a port, or asked once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, home
from hansa.cli.serving import Cert, Host, Insecure, Key, Port, TokenEnv

if TYPE_CHECKING:
    from hansa.route.serving.served_pool import ServedPool


class Stored(StrEnum):
    """The type of the adapters in memory."""

    float32 = "float32"
    bfloat16 = "bfloat16"


Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="An index, a run of hansa route, or a base's folder with --adapters.",
        callback=home,
    ),
]
Adapters = Annotated[
    Path | None,
    typer.Option(
        help="The folder of the adapters.",
        metavar="POOL",
        show_default="the index's own",
        callback=home,
    ),
]
MaxTokens = Annotated[
    int, typer.Option(help="Of an answer, where a request does not say.", metavar="N", min=1)
]
Dtype = Annotated[Stored, typer.Option(help="How adapters lie in memory.")]


def serve(
    source: Source,
    adapters: Adapters = None,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    token_env: TokenEnv = None,
    admin_token_env: Annotated[
        str | None,
        typer.Option(
            help="Environment variable with the token for loading and unloading adapters from "
            "below the pool's folder.",
            metavar="NAME",
            show_default="nobody can",
        ),
    ] = None,
    tls_cert: Cert = None,
    tls_key: Key = None,
    insecure: Insecure = False,
    max_tokens: MaxTokens = 32,
    max_batch: Annotated[int, typer.Option(help="Rows of a batch.", metavar="N", min=1)] = 32,
    max_wait_ms: Annotated[
        float,
        typer.Option(help="How long a row waits for others.", metavar="MS", min=0, max=10_000),
    ] = 5.0,
    timeout_s: Annotated[
        float, typer.Option(help="Seconds until an answer is whole.", metavar="S", min=0.001)
    ] = 60.0,
    prefix_tokens: Annotated[
        int,
        typer.Option(help="Tokens of prompts kept for the next request.", metavar="N", min=0),
    ] = 4096,
    dtype: Dtype = Stored.float32,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Measure once what mixing costs here, and keep that."),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A pool of adapters on a port, as OpenAI's interface: model "auto" routes, a name pins.

    Ends at SIGTERM or Ctrl-C once what is under way is answered.
    """
    with answering(as_json, debug) as answer:
        from hansa.base.telling import say
        from hansa.serving.listening import Listening, bound, listen, token_from

        where = Listening(host, port, token_env, tls_cert, tls_key, insecure)
        token, admin = where.checked(), token_from(admin_token_env, "admin_token_env")
        if admin is not None and admin == token:
            problem = "holds the token that everybody bears"
            raise ConfigError("admin_token_env", admin_token_env, problem, "one of its own")
        from hansa.route.serving.adapter_loading import AdapterLoading
        from hansa.route.serving.openai_app import Limits, OpenAIApp
        from hansa.route.serving.opening import open_pool

        with bound(host, port) as sock:
            opened = open_pool(source, adapters, max_tokens, dtype.value, prefix_tokens)
            if calibrate:
                _calibrate(opened.pool)
            limits = Limits(timeout_s=timeout_s, most=max_batch, wait_s=max_wait_ms / 1000)
            loading = AdapterLoading(opened.pool, opened.root)
            app = OpenAIApp(opened.pool, token, admin, loading, limits)
            count = len(opened.pool.model.slab)

            def started(url: str) -> None:
                text = f"{opened.pool.name} with {count} adapters answers at {url}/v1"
                say(text) if as_json else answer.line(text)

            url = listen(app.app(), where, sock, started)
        requests = int(app.figures.total("hansa_route_requests_total"))
        answer.data = {"url": url, "model": opened.pool.name, "requests": requests}
        answer.line(f"{requests} requests answered")


def ask(
    source: Source,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="What to ask.")],
    model: Annotated[
        str, typer.Option(help="auto, base, or an adapter's name.", metavar="NAME")
    ] = "auto",
    mix: Annotated[
        list[str] | None,
        typer.Option(help="Mix this adapter in; may be repeated.", metavar="NAME=WEIGHT"),
    ] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option(help="An answer to choose from; may be repeated.", metavar="TEXT"),
    ] = None,
    adapters: Adapters = None,
    max_tokens: MaxTokens = 32,
    dtype: Dtype = Stored.float32,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Say how far from each mixture it would be to average factors instead: by their "
            "weights (fusion), or by the roots of these (PEFT's linear).",
        ),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask a routed pool from a terminal: the answer, and which adapters gave it."""
    with answering(as_json, debug) as answer:
        from hansa.report.grid import Grid
        from hansa.route.serving.asking import ask as answers_of
        from hansa.route.serving.opening import open_pool

        mixed = tuple(map(_pair, mix or ()))
        pool = open_pool(source, adapters, max_tokens, dtype.value).pool
        said = answers_of(pool, texts, model, mixed, tuple(candidate or ()), explain)
        answer.data = {"answers": said}
        rows = [[str(one["text"]), str(one["answer"]), _shown(one["routing"])] for one in said]
        heads = ["text", "answer", "by"]
        if explain:
            heads += ["fusion off by", "linear off by"]
            for row, one in zip(rows, said, strict=True):
                row += [f"{error:.0%}" for error in one["composition"].values()]
        answer.table(Grid("Answers", heads, rows, words=3))


def _pair(text: str) -> tuple[str, float]:
    name, equals, weight = text.rpartition("=")
    try:
        if equals:
            return name, float(weight)
    except ValueError:
        pass
    raise ConfigError("mix", text, "is no NAME=WEIGHT", "such as --mix french=0.7")


def _shown(routing: dict[str, Any]) -> str:
    if not routing["adapters"]:
        return "the base: no task is near" if routing["abstained"] else "the base"
    return ", ".join(f"{one['name']} {one['weight']:.2f}" for one in routing["adapters"])


def _calibrate(pool: ServedPool) -> None:
    import torch

    from hansa.base.files import cache_folder
    from hansa.route.mixture_cost import calibrate

    threads, width = torch.get_num_threads(), max(map(min, pool.model.slab.linears.values()))
    file = cache_folder() / f"mixture-costs-{threads}-{width}.json"
    pool.model.slab.costs = calibrate(file, width)
