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
            given = torch.tensor([row["embedding"] for row in said["data"]])
            assert torch.allclose(given, vectors, atol=1e-6)
            assert said["data"][0]["routing"]["tasks"] == ["greet"]
            body = {"model": "a2", "input": "w9", "encoding_format": "base64"}
            said = (await http.post("/v1/embeddings", json=body)).json()
            raw = np.frombuffer(base64.b64decode(said["data"][0]["embedding"]), "<f4")
            alone = model.embeddings(["w9"], [Mixture((2,), (1.0,))])[0]
            assert np.allclose(raw, alone.numpy(), atol=1e-6)
            bare = await http.post("/v1/completions", json={"model": "auto", "prompt": "w3"})
            assert (bare.status_code, "candidates" in bare.text) == (400, True)

    run(asked())


def test_rows_that_nobody_waits_for_leave_their_batch(tmp_path: Path) -> None:
    pool = pool_of(tmp_path)
    steps: list[int] = []
    left = threading.Event()
    forward = pool.model._forward  # type: ignore[attr-defined]

    def held(ids: torch.Tensor, *more: Any) -> torch.Tensor:
        steps.append(len(ids))
        if len(steps) == 4:  # in the middle of all answers
            left.wait(60)
        return forward(ids, *more)

    pool.model._forward = held  # type: ignore[attr-defined]
    pool.model.ends = frozenset()  # type: ignore[attr-defined]
    body = {"model": "base", "max_tokens": 20}

    async def asked() -> None:
        async with asking(pool, wait_s=0.02) as http:
            late = {"x-request-deadline-ms": "1500"}
            path = "/v1/completions"
            hurried = http.post(path, json={**body, "prompt": "w3"}, headers=late)
            streamed = http.post(path, json={**body, "prompt": "w4", "stream": True}, headers=late)
            patient = asyncio.ensure_future(http.post(path, json={**body, "prompt": "w5"}))
            over, begun = await asyncio.gather(hurried, streamed)
            left.set()
            assert over.status_code == 504
            assert over.json()["error"]["type"] == "timeout_error"
            events = [line[6:] for line in begun.text.split("\n\n") if line]
            assert begun.status_code == 200  # it had begun
            assert "took too long" in events[-1]
            assert "[DONE]" not in begun.text
            assert (await patient).json()["choices"][0]["finish_reason"] == "length"
            assert steps == [3] * 4 + [1] * 16

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
