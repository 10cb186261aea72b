"""The OpenAI-like interface: who answers, what is refused, streams, loads, and 64 at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from hansa.route.answering import BASE, Mixture
from hansa.route.prefix_cache import PrefixCache
from hansa.route.serving.served_pool import ServedPool

from .serving_world import ADMIN, asking, pool_of, run, written

HEADERS = {"authorization": f"Bearer {ADMIN}"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "pool"


def alone(pool: ServedPool, text: str, *adapters: tuple[str, float]) -> str:
    """The answer of a single run."""
    mixture = BASE
    if adapters:
        index = tuple(pool.model.slab.index(name) for name, _ in adapters)
        mixture = Mixture(index, tuple(weight for _, weight in adapters))
    return pool.model.generate([text], [mixture])[0].text  # type: ignore[attr-defined]


def completion(model: str, prompt: Any, **more: Any) -> dict[str, Any]:
    return {"model": model, "prompt": prompt, **more}


def test_who_answers(root: Path) -> None:
    async def asked() -> None:
        pool = pool_of(root)
        async with asking(pool) as http:

            async def ask(**body: Any) -> Any:
                response = await http.post("/v1/completions", json=body)
                assert response.status_code == 200, response.text
                said = response.json()
                return said["choices"][0]["text"], said["routing"], said

            text, routing, said = await ask(model="auto", prompt="w3 w9")
            assert text == alone(pool, "w3 w9", ("a1", 1.0))
            assert (routing["tasks"], routing["abstained"]) == (["greet"], False)
            assert said["usage"]["prompt_tokens"] == 2
            text, routing, _ = await ask(model="auto", prompt="w4 w9")
            assert text == alone(pool, "w4 w9", ("a2", 0.75), ("a0", 0.25))
            assert routing["weights"] == [0.75, 0.25]
            assert routing["adapters"][1]["sha256"] == pool.digests["a0"]
            text, routing, _ = await ask(model="auto", prompt="w9 w9")
            assert (text, routing["abstained"]) == (alone(pool, "w9 w9"), True)
            assert (await ask(model="a2", prompt="w4"))[0] == alone(pool, "w4", ("a2", 1.0))
            for base in ("base", "tiny"):
                text, routing, _ = await ask(model=base, prompt="w4")
                assert (text, routing["adapters"]) == (alone(pool, "w4"), [])
            own = [{"name": "a0", "weight": 2}, {"name": "a1", "weight": -0.5}]
            text, _, _ = await ask(model="base", prompt="w5", adapters=own)
            assert text == alone(pool, "w5", ("a0", 2.0), ("a1", -0.5))
            many = await http.post("/v1/completions", json=completion("auto", ["w3", "w4"]))
            kinds = [choice["routing"]["tasks"] for choice in many.json()["choices"]]
            assert kinds == [["greet"], ["count", "sort"]]

    run(asked())


def test_chats_and_streams(root: Path) -> None:
    async def asked() -> None:
        pool = pool_of(root)
        messages = [
            {"role": "system", "content": "w7"},
            {"role": "user", "content": [{"type": "text", "text": "w3 w8"}]},
        ]
        async with asking(pool) as http:
            whole = await http.post(
                "/v1/chat/completions", json={"model": "auto", "messages": messages}
            )
            expected = alone(pool, "w7 w3 w8", ("a1", 1.0))  # routed by what the user says
            assert whole.json()["choices"][0]["message"]["content"] == expected
            pool.model.tokenizer.chat_template = (  # type: ignore[attr-defined]
                "{% for m in messages %}{{ m.content + ' w20 ' }}{% endfor %}"
            )
            body = {"model": "auto", "messages": messages, "stream": True, "max_tokens": 4}
            async with http.stream("POST", "/v1/chat/completions", json=body) as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                lines = [line async for line in response.aiter_lines() if line]
            assert lines.pop() == "data: [DONE]"
            events = [json.loads(line.removeprefix("data: ")) for line in lines]
            assert events[0]["routing"]["tasks"] == ["greet"]
            pieces = [event["choices"][0]["delta"].get("content", "") for event in events]
            templated = alone(pool, "w7 w20 w3 w8 w20", ("a1", 1.0))
            assert templated.startswith("".join(pieces))
            assert len([piece for piece in pieces if piece]) > 1
            assert events[-1]["choices"][0]["finish_reason"] == "length"
            for body in (completion("b", "w3"), completion("base", "w3 " * 200)):
                refused = await http.post("/v1/completions", json={**body, "stream": True})
                assert refused.status_code in (400, 404)  # before the first event: a plain error
                assert "message" in refused.json()["error"]

    run(asked())


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("completions", completion("nobody", "w3"), 404, "there are: tiny, auto, a0, a1, a2"),
    ("completions", completion("base", "w3", adapters=[{"name": "z"}]), 404, "no model 'z'"),
    ("completions", completion("a0", "w3", adapters=[{"name": "a1"}]), 400, "mixed on the base"),
    ("completions", completion("base", "w3", temperature=0.7), 400, "temperature"),
    ("completions", completion("base", "w3", tools=[{}]), 400, "tools"),
    ("completions", completion("base", "w3", frobnicate=1), 400, "frobnicate"),
    ("completions", completion("base", [1, 2]), 400, "prompt"),
    ("completions", completion("base", " "), 400, "empty text"),
    ("completions", completion("base", "w3", max_tokens=0), 400, "max_tokens"),
    ("completions", completion("base", "w3", stop=3), 400, "stop"),
    ("completions", completion("base", "w3", max_tokens=1000), 400, "more than the model's 128"),
    ("completions", completion("base", "w3", candidates=["a"]), 400, "candidates"),
    ("completions", completion("base", "w3", adapters=[{"name": "a0", "weight": "1"}]), 400,
     "weight"),
    ("completions", {"prompt": "w3"}, 400, "model is missing"),
    ("chat/completions", {"model": "base", "messages": []}, 400, "messages"),
    ("chat/completions", {"model": "base", "messages": [{"role": "tool", "content": ""}]}, 400,
     "role"),
    ("embeddings", {"model": "base", "input": "w3"}, 400, "no embeddings"),
    ("load_lora_adapter", {"lora_name": "a0"}, 404, "no path"),
]  # fmt: skip


def test_what_is_refused_and_how(root: Path) -> None:
    async def asked() -> None:
        async with asking(pool_of(root), token="s3cret", body=2000) as http:
            assert (await http.get("/health")).json() == {"status": "ok"}
            for path in ("/v1/models", "/metrics"):
                unknown = await http.get(path)
                assert (unknown.status_code, unknown.json()["error"]["type"]) == (
                    401, "authentication_error",
                )  # fmt: skip
            http.headers["authorization"] = "Bearer s3cret"
            for path, body, status, text in REFUSED:
                response = await http.post(f"/v1/{path}", json=body)
                said = response.json()["error"]
                assert (response.status_code, text in said["message"]) == (status, True), said
            assert said["code"] == "model_not_found"
            long = await http.post("/v1/completions", content=b"x" * 3000)
            assert long.status_code == 413
            assert (await http.post("/v1/completions", content=b"{")).status_code == 400
            assert (await http.get("/v1/completions")).status_code == 405
            late = {"x-request-deadline-ms": "0.001"}
            slow = await http.post(
                "/v1/completions", json=completion("base", "w3", max_tokens=90), headers=late
            )
            assert slow.status_code == 504
            figures = (await http.get("/metrics")).text
            assert 'hansa_route_requests_total{path="/v1/completions",status="404"} 2' in figures
            assert "hansa_route_adapters 3" in figures
            models = (await http.get("/v1/models")).json()["data"]
            assert [(m["id"], m["parent"]) for m in models[:3]] == [
                ("tiny", None), ("auto", "tiny"), ("a0", "tiny"),
            ]  # fmt: skip
            assert (await http.get("/v1/models/a1")).json()["id"] == "a1"
            assert (await http.get("/v1/models/zz")).status_code == 404
        async with asking(pool_of(root, routed=False), room=1) as http:
            nobody = await http.post("/v1/completions", json=completion("auto", "w3"))
            assert nobody.status_code == 404
            many = await http.post("/v1/completions", json=completion("base", ["w3", "w4"]))
            assert (many.status_code, many.headers["retry-after"]) == (429, "1")

    run(asked())


def test_adapters_are_loaded_from_below_the_root_only(root: Path, tmp_path: Path) -> None:
    outside = written(tmp_path / "outside", 9)

    async def asked() -> None:
        pool = pool_of(root)
        (root / "link").symlink_to(outside)
        (root / "half").mkdir()
        for file in outside.iterdir():
            (root / "half" / file.name).symlink_to(file)
        written(root / "new", 7)
        (root / "pickled").mkdir()
        config = (root / "new" / "adapter_config.json").read_text()
        (root / "pickled" / "adapter_config.json").write_text(config)
        (root / "pickled" / "adapter_model.bin").write_bytes(b"x")
        async with asking(pool, root) as http:

            async def load(status: int, text: str, **body: Any) -> None:
                path = "/v1/load_lora_adapter"
                response = await http.post(path, json=body, headers=HEADERS)
                assert response.status_code == status, response.text
                assert text in response.text

            refused = await http.post("/v1/load_lora_adapter", json={"lora_name": "new"})
            assert refused.status_code == 401
            for where in (
                "../outside",
                str(outside),
                "link",
                "half",
                "nothing",
                "a0/../../outside",
            ):
                await load(403, "not below the folder", lora_name="x", lora_path=where)
            await load(400, "pickled", lora_name="x", lora_path="pickled")
            await load(400, "loaded already", lora_name="a0")
            await load(400, "another name", lora_name="auto", lora_path="new")
            await load(400, "load_inplace", lora_name="new", load_inplace=1.5)
            await load(400, "no object", lora_name="new", more=1)
            assert pool.model.slab.names == ("a0", "a1", "a2")
            await load(200, "is loaded", lora_name="new")
            answer = await http.post("/v1/completions", json=completion("new", "w9"))
            assert answer.json()["choices"][0]["text"] == alone(pool, "w9", ("new", 1.0))
            gone = {"lora_name": "a1"}
            for status in (200, 404):
                response = await http.post("/v1/unload_lora_adapter", json=gone, headers=HEADERS)
                assert response.status_code == status
            assert (
                await http.post("/v1/completions", json=completion("a1", "w3"))
            ).status_code == 404
            # What the router would choose is gone: an error, and neither the base nor another.
            routed = await http.post("/v1/completions", json=completion("auto", "w3"))
            assert (routed.status_code, "a1" in routed.text) == (503, True)

    run(asked())


def test_64_at_once_with_loads_and_reloads_are_their_single_runs(root: Path) -> None:
    for version in range(4):
        written(root / f"hot-{version}", 20 + version, 2 + 2 * version)
    (root / "hot").symlink_to(root / "hot-0")

    async def asked() -> None:
        pool = pool_of(root, ("a0", "a1", "a2", "hot"))
        pool.model.prefixes = PrefixCache(100)  # type: ignore[attr-defined]
        # A second pool with each version under its digest, to run rows alone.
        plain = pool_of(root, ("a0", "a1", "a2", "hot-0", "hot-1", "hot-2", "hot-3"))
        by_digest = {digest: name for name, digest in plain.digests.items()}
        answered, reloaded = asyncio.Event(), asyncio.Event()
        async with asking(pool, root, most=16, wait_s=0.001) as http:

            async def row(k: int) -> tuple[str, Any]:
                if k >= 48:
                    await reloaded.wait()
                text = f"w{3 + k % 3} w{10 + k % 3} w{5 + k % 11}"
                kinds: list[dict[str, Any]] = [
                    {"model": "hot"}, {"model": "auto"}, {"model": "a1"}, {"model": "base"},
                    {"model": "base", "adapters": [{"name": "hot", "weight": 0.6},
                                                   {"name": "a0", "weight": 0.4}]},
                ]  # fmt: skip
                body = {**kinds[k % 5], "prompt": text, "max_tokens": 2 + k % 5}
                response = await http.post("/v1/completions", json=body)
                assert response.status_code == 200, response.text
                answered.set()
                return text, response.json()

            async def reload() -> None:
                await answered.wait()  # by the first version
                for turn in range(12):
                    where = f"hot-{1 + turn % 3}"
                    body = {"lora_name": "hot", "lora_path": where, "load_inplace": True}
                    done = await http.post("/v1/load_lora_adapter", json=body, headers=HEADERS)
                    assert done.status_code == 200, done.text
                    reloaded.set()
                    for path in ("load", "unload"):
                        body = {"lora_name": "extra"} | (
                            {"lora_path": "hot-1"} if path == "load" else {}
                        )
                        await http.post(f"/v1/{path}_lora_adapter", json=body, headers=HEADERS)

            *answers, _ = await asyncio.gather(*(row(k) for k in range(64)), reload())
            figures = (await http.get("/metrics")).text
        versions = set()
        for k, (text, said) in enumerate(answers):  # type: ignore[misc]
            used = [(by_digest[a["sha256"]], a["weight"]) for a in said["routing"]["adapters"]]
            versions |= {name for name, _ in used if name.startswith("hot")}
            plain.model.decoding = type(plain.model.decoding)(2 + k % 5)  # type: ignore[attr-defined]
            assert said["choices"][0]["text"] == alone(plain, text, *used), k
        assert len(versions) > 1
        assert pool.model.prefixes.hits  # type: ignore[attr-defined]
        batches = int(figures.partition("\nhansa_route_batches_total ")[2].split()[0])
        assert batches < 64  # mixtures shared batches
        assert "hansa_route_batch_rows_total 64" in figures

    run(asked())
