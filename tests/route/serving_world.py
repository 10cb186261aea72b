"""A tiny pool that is served: adapters on disk, a router by the first word, an app over both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import httpx

from hansa.route.answering import BASE, Mixture, Query
from hansa.route.generating import GeneratingModel
from hansa.route.pool_loading import load_adapter
from hansa.route.routing import Routed
from hansa.route.serving.adapter_loading import AdapterLoading
from hansa.route.serving.openai_app import Limits, OpenAIApp
from hansa.route.serving.served_pool import ServedPool
from hansa.route.slab import AdapterSlab
from hansa.weights.lora_folder import LoraFactors, LoraFolder, write_lora

from .mixture_models import random_factors, tiny_llama, tiny_tokenizer

ADMIN = "let-me"


class FirstWord:
    """Routes w3 to one task, w4 to two, everything else to nobody."""

    names = ("a0", "a1", "a2")
    task_names = ("greet", "count", "sort")

    def __init__(self) -> None:
        self.calls: list[int] = []

    def route(self, queries: Sequence[Query]) -> list[Routed]:
        self.calls.append(len(queries))
        routes = {
            "w3": Routed((0,), (1.0,), (0.9,), Mixture((1,), (1.0,))),
            "w4": Routed((1, 2), (0.75, 0.25), (0.8, 0.7), Mixture((2, 0), (0.75, 0.25))),
        }
        nobody = Routed((0,), (1.0,), (0.1,), BASE, True)
        return [routes.get(query.text.split()[0], nobody) for query in queries]


def written(folder: Path, seed: int, rank: int = 4) -> Path:
    """An adapter of the tiny Llama as a PEFT folder."""
    factors = random_factors(tiny_llama(), seed, rank)
    return write_lora(folder, {name: LoraFactors(a, b) for name, (a, b) in factors.items()})


def pool_of(
    root: Path, names: Sequence[str] = ("a0", "a1", "a2"), routed: bool = True
) -> ServedPool:
    """The pool in a folder, with three adapters of other ranks."""
    module = tiny_llama()
    slab, digests = AdapterSlab.over(module), {}
    for k, name in enumerate(names):
        if not (root / name).exists():
            written(root / name, k, (2, 4, 8)[k % 3])
        opened = LoraFolder.open(root / name)
        load_adapter(slab, opened, name)
        digests[name] = opened.sha256()
    model = GeneratingModel(module, tiny_tokenizer(), slab, 6)
    return ServedPool("tiny", model, FirstWord() if routed else None, digests)


@contextlib.asynccontextmanager
async def asking(
    pool: ServedPool, root: Path | None = None, token: str | None = None, **limits: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the pool's app, without a network."""
    loading = None if root is None else AdapterLoading(pool, root)
    served = OpenAIApp(pool, token, ADMIN if root else None, loading, Limits(**limits))
    app = served.app()
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://pool", timeout=60) as http,
    ):
        yield http


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine."""
    asyncio.run(work)
