"""Served encoders, requests that nobody waits for any more, and bodies of all kinds."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.route.answering import BASE, Mixture, Query
from hansa.route.label_text import LabelTextModel
from hansa.route.serving.openai_requests import Path as RoutePath
from hansa.route.serving.openai_requests import read
from hansa.route.serving.served_pool import ServedPool
from hansa.route.slab import AdapterSlab
from hansa.serving.requests_in import Refused

from .mixture_models import random_factors, tiny_bert, tiny_tokenizer
from .serving_world import FirstWord, asking, pool_of, run

LABELS = ["w10 w11", "w20", "w30 w31 w32"]


@pytest.fixture
def encoder() -> ServedPool:
    module = tiny_bert()
    slab = AdapterSlab.over(module)
    for k in range(3):
        slab.add(f"a{k}", random_factors(module, k, 2 + k))
    return ServedPool("bert", LabelTextModel(module, tiny_tokenizer(50), slab), FirstWord())


def test_an_encoder_chooses_and_embeds_under_each_rows_mixture(encoder: ServedPool) -> None:
    model = encoder.model

    async def asked() -> None:
        async with asking(encoder) as http:
            body = {"model": "auto", "prompt": ["w3 w5", "w4", "w9"], "candidates": LABELS}
            said = (await http.post("/v1/completions", json=body)).json()
            mixtures = [Mixture((1,), (1.0,)), Mixture((2, 0), (0.75, 0.25)), BASE]
            queries = [Query(text, tuple(LABELS)) for text in body["prompt"]]
            expected = model.answers(queries, mixtures)
            assert [choice["text"] for choice in said["choices"]] == expected
            assert [c["routing"]["abstained"] for c in said["choices"]] == [False, False, True]
            assert "usage" not in said  # nothing was generated
            lines = (await http.post("/v1/completions", json={**body, "stream": True})).text
            events = [json.loads(line[6:]) for line in lines.split("\n\n")[:-2]]
            texts = {e["choices"][0]["index"]: e["choices"][0]["text"] for e in events
                     if e["choices"][0]["text"]}  # fmt: skip
            assert texts == dict(enumerate(expected))
            body = {"model": "auto", "input": ["w3 w5", "w9"]}
            said = (await http.post("/v1/embeddings", json=body)).json()
            vectors = model.embeddings(["w3 w5", "w9"], [mixtures[0], BASE])
            embedded = torch.tensor([row["embedding"] for row in said["data"]])
            assert torch.allclose(embedded, vectors, atol=1e-6)
            assert said["data"][0]["routing"]["tasks"] == ["greet"]
            body = {"model": "a2", "input": "w9", "encoding_format": "base64"}
            said = (await http.post("/v1/embeddings", json=body)).json()
            raw = np.frombuffer(base64.b64decode(said["data"][0]["embedding"]), "<f4")
            alone = model.embeddings(["w9"], [Mixture((2,), (1.0,))])[0]
            assert np.allclose(raw, alone.numpy(), atol=1e-6)
            bare = await http.post("/v1/completions", json={"model": "auto", "prompt": "w3"})
            assert (bare.status_code, "candidates" in bare.text) == (400, True)

    run(asked())


class Held:
    """A pool whose answers stop in their middle until they are let go."""

    def __init__(self, root: Path) -> None:
        self.pool = pool_of(root)
        self.steps: list[int] = []
        self.reached, self.left = threading.Event(), threading.Event()
        model: Any = self.pool.model
        self._forward, model._forward, model.ends = model._forward, self._held, frozenset()

    def _held(self, ids: torch.Tensor, *more: Any) -> torch.Tensor:
        self.steps.append(len(ids))
        if len(self.steps) == 4:
            self.reached.set()
            self.left.wait(60)
        return self._forward(ids, *more)


BODY = {"model": "base", "max_tokens": 20}
COMPLETIONS = "/v1/completions"


def test_rows_whose_time_is_over_leave_their_batch(tmp_path: Path) -> None:
    held = Held(tmp_path)

    async def asked() -> None:
        async with asking(held.pool, most=3, wait_s=5) as http:

            def post(prompt: str, **more: Any) -> Any:
                late = {"x-request-deadline-ms": "2500"} if prompt != "w5" else {}
                return http.post(COMPLETIONS, json={**BODY, "prompt": prompt, **more}, headers=late)

            patient = asyncio.ensure_future(post("w5"))
            over, begun = await asyncio.gather(post("w3"), post("w4", stream=True))
            held.left.set()
            assert over.status_code == 504
            assert over.json()["error"]["type"] == "timeout_error"
            events = [line[6:] for line in begun.text.split("\n\n") if line]
            assert begun.status_code == 200  # it had begun
            assert "took too long" in events[-1]
            assert "[DONE]" not in begun.text
            assert (await patient).json()["choices"][0]["finish_reason"] == "length"
            assert held.steps == [3] * 4 + [1] * 16

    run(asked())


def test_a_row_whose_client_is_gone_leaves_its_batch(tmp_path: Path) -> None:
    held = Held(tmp_path)
    body = json.dumps({**BODY, "prompt": "w3"}).encode()
    sent: list[Any] = []

    async def asked() -> None:
        gone = asyncio.Event()
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            if (message := next(messages, None)) is not None:
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        async with asking(held.pool, most=2, wait_s=5) as http:
            app: Any = http._transport.app  # type: ignore[attr-defined]
            scope = {
                "type": "http", "method": "POST", "path": COMPLETIONS, "raw_path": b"",
                "query_string": b"", "headers": [], "root_path": "", "scheme": "http",
                "server": ("pool", 80), "client": ("127.0.0.1", 1), "http_version": "1.1",
            }  # fmt: skip
            leaving = asyncio.ensure_future(app(scope, receive, send))
            patient = asyncio.ensure_future(http.post(COMPLETIONS, json={**BODY, "prompt": "w5"}))
            while not held.reached.is_set():
                await asyncio.sleep(0.005)
            gone.set()
            await leaving
            held.left.set()
            assert (await patient).status_code == 200
        assert sent[0]["status"] == 499
        assert held.steps == [2] * 4 + [1] * 16

    run(asked())


def test_what_breaks_in_one_batch_does_not_stop_the_next(tmp_path: Path) -> None:
    pool = pool_of(tmp_path)
    generate = pool.model.generate  # type: ignore[attr-defined]
    broken = [True]

    def breaks(*words: Any, **more: Any) -> Any:
        if broken.pop() if broken else False:
            raise RuntimeError("out of memory")
        return generate(*words, **more)

    pool.model.generate = breaks  # type: ignore[attr-defined]

    async def asked() -> None:
        async with asking(pool) as http:
            body = {"model": "base", "prompt": "w3"}
            with pytest.raises(
                RuntimeError, match="out of memory"
            ):  # the transport lets it through
                await http.post("/v1/completions", json=body)
            assert (await http.post("/v1/completions", json=body)).status_code == 200

    run(asked())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
fields = st.sampled_from(
    ["model", "prompt", "messages", "input", "max_tokens", "stop", "stream", "adapters",
     "candidates", "temperature", "n", "seed", "encoding_format", "other"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["completions", "chat", "embeddings"]), st.dictionaries(fields, json_values))
def test_any_body_is_read_or_refused(path: RoutePath, body: dict[str, Any]) -> None:
    for said in (body, {"model": "m", "prompt": "x", "input": "x", **body}):
        with contextlib.suppress(Refused):  # nothing else is raised
            asked = read(path, json.dumps(said).encode(), 8)
            assert len(asked.texts) == len(asked.routed_by) >= 1
            assert "other" not in said or said["other"] is None
