"""``hansa route serve`` and ``hansa route ask`` on an index: started, asked, ended, refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hansa.cli import main
from hansa.route.answering import BASE, Mixture, Query
from hansa.route.base_models import fingerprint
from hansa.route.composition_error import composition_errors
from hansa.route.encoders.hashing import Hashing
from hansa.route.routing_index import IndexedTask, RoutingIndex
from hansa.route.serving.opening import open_pool
from hansa.weights.compressed_pool import CompressedPool
from hansa.weights.lora_folder import LoraFolder

from .mixture_models import tiny_llama, tiny_tokenizer
from .serving_world import written

TASKS = {"greet": "w3 w4 w5", "count": "w10 w11 w12", "sort": "w20 w21 w22"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, three adapters, and an index whose tasks each have one of them."""
    place = tmp_path_factory.mktemp("world")
    tiny_llama().save_pretrained(place / "base")  # type: ignore[operator]
    tiny_tokenizer().save_pretrained(place / "base")
    adapters = {}
    for k, name in enumerate(("a0", "a1", "a2")):
        adapters[name] = LoraFolder.open(written(place / "pool" / name, k)).sha256()
    encoder = Hashing()
    fitted = encoder.fitted(())
    tasks = tuple(
        IndexedTask(name, "all", "exact_match", None, name, 3, np.full(3, 0.5)) for name in TASKS
    )
    RoutingIndex(
        place / "base", fingerprint(place / "base"), place / "pool", adapters, tasks,
        fitted.embed(list(TASKS.values())), np.eye(3), np.full((3, 3), 3), np.array([1, 2, 0]),
        1, 0.05, 0.3, encoder, fitted, {},
    ).save(place / "index")  # fmt: skip
    return place


def asked(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> Any:
    assert main(["route", "ask", *words, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_ask_routes_pins_mixes_and_abstains(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = open_pool(world / "index").pool
    index = str(world / "index")
    said = asked(capsys, index, "w3 w4", "w20 w21", "w50")["answers"]
    assert [one["routing"]["tasks"] for one in said][:2] == [["greet"], ["sort"]]
    names = [[a["name"] for a in one["routing"]["adapters"]] for one in said]
    assert names == [["a1"], ["a0"], []]
    assert [one["routing"]["abstained"] for one in said] == [False, False, True]
    model = pool.model
    mixtures = [Mixture((1,), (1.0,)), Mixture((0,), (1.0,)), BASE]
    queries = [Query("w3 w4"), Query("w20 w21"), Query("w50")]
    assert [one["answer"] for one in said] == model.answers(queries, mixtures)
    pinned = asked(capsys, index, "w3 w4", "--model", "a2")["answers"][0]
    assert pinned["answer"] == model.answers(queries[:1], [Mixture((2,), (1.0,))])[0]
    mixed = asked(capsys, index, "w3 w4", "--mix", "a0=0.5", "--mix", "a1=0.5")["answers"][0]
    assert mixed["answer"] == model.answers(queries[:1], [Mixture((0, 1), (0.5, 0.5))])[0]
    mix = ["--mix", "a0=0.5", "--mix", "a1=0.5", "--explain"]
    errors = asked(capsys, index, "w3 w4", *mix)["answers"][0]["composition"]
    expected = composition_errors(model.slab, Mixture((0, 1), (0.5, 0.5)))
    assert errors == {error.method: error.relative for error in expected}
    assert min(errors.values()) > 0.5
    assert main(["route", "ask", index, "w3 w4", "--explain"]) == 0
    shown = capsys.readouterr().out
    assert "a1 1.00" in shown
    assert "fusion off" in shown


def test_what_ask_refuses(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def problem(*words: str) -> str:
        error = asked(capsys, *words, status=2)["error"]
        return str(error["message"])

    index = str(world / "index")
    assert "there are: base, auto, a0, a1, a2" in problem(index, "w3", "--model", "zz")
    assert "NAME=WEIGHT" in problem(index, "w3", "--mix", "a0")
    assert "leave them out" in problem(index, "w3", "--candidate", "x")
    assert "--adapters POOL" in problem(str(world / "base"), "w3")
    assert "is no folder" in problem(str(tmp_path / "nothing"), "w3")
    base = ("--adapters", str(world / "pool"))
    assert "nothing is routed" in problem(str(world / "base"), "w3", *base)
    assert asked(capsys, str(world / "base"), "w3", "--model", "a1", *base)["answers"]
    changed = tmp_path / "pool"
    shutil.copytree(world / "pool", changed)
    shutil.rmtree(changed / "a1")
    other = ("--adapters", str(changed))
    assert "lacks adapters of the index: a1" in problem(index, "w3", *other)
    written(changed / "a1", 99)
    assert "has changed since it was indexed" in problem(index, "w3", *other)


@pytest.mark.parametrize("share", ["adapter", "layer"])
def test_a_compressed_pool_is_routed_by_the_index_of_the_whole(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: str
) -> None:
    small = tmp_path / "small"
    words = ["--budget", "15kB", "--share", share, "--out", str(small), "-q", "--json"]
    assert main(["route", "compress", str(world / "pool"), *words]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] <= 15_000
    made = CompressedPool.open(small)
    pool = open_pool(world / "index", small).pool
    index = ("--adapters", str(small))
    said = asked(capsys, str(world / "index"), "w3 w4", *index)["answers"][0]
    assert said["routing"]["tasks"] == ["greet"]  # whose adapter was a1
    used = {one["name"]: one["weight"] for one in said["routing"]["adapters"]}
    assert used == made.mixture({"a1": 1.0})
    assert len(used) == (1 if share == "adapter" else len(made.plan.blocks))
    slab = pool.model.slab
    mixture = Mixture(tuple(map(slab.index, used)), tuple(used.values()))
    assert said["answer"] == pool.model.answers([Query("w3 w4")], [mixture])[0]
    pinned = asked(capsys, str(world / "index"), "w3 w4", *index, "--model", "a1")["answers"][0]
    assert pinned["answer"] == said["answer"]
    mix = ("--mix", "a0=0.5", "--mix", "a1=0.5", *index)
    both = asked(capsys, str(world / "index"), "w3 w4", *mix)["answers"][0]["routing"]["adapters"]
    expected = made.mixture({"a0": 0.5, "a1": 0.5})
    assert {one["name"]: one["weight"] for one in both} == expected


@contextlib.asynccontextmanager
async def serving(*words: str, **environment: str) -> AsyncIterator[tuple[str, Any]]:
    """``hansa route serve``: its address, and its process; it is over at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hansa.cli", "route", "serve", *words, "--port", "0", "--json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = (await asyncio.wait_for(process.stderr.readline(), 120)).decode()
        address = re.search(r"http://[\d.:]+", line)
        assert address, line
        yield address[0], process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def test_serve_answers_loads_and_drains(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "pool", tmp_path / "pool")
    written(tmp_path / "pool" / "more", 5)
    words = [str(world / "index"), "--adapters", str(tmp_path / "pool"), "--calibrate"]
    tokens = {"KEY": "s3cret", "ADMIN": "4dmin", "HANSA_CACHE": str(tmp_path / "cache")}

    async def run() -> None:
        more = ["--token-env", "KEY", "--admin-token-env", "ADMIN"]
        async with serving(*words, *more, **tokens) as (url, process):
            async with httpx.AsyncClient(base_url=url, timeout=60) as http:
                assert (await http.get("/health")).status_code == 200
                assert (await http.get("/v1/models")).status_code == 401
                http.headers["authorization"] = "Bearer s3cret"
                body = {"model": "more", "prompt": "w3"}
                assert (await http.post("/v1/completions", json=body)).status_code == 404
                load = {"lora_name": "more"}
                admin = {"authorization": "Bearer 4dmin"}
                done = await http.post("/v1/load_lora_adapter", json=load, headers=admin)
                assert done.status_code == 200, done.text
                assert (await http.post("/v1/completions", json=body)).status_code == 200
                body = {"model": "auto", "prompt": "w10 w11", "max_tokens": 100}
                answer = asyncio.ensure_future(http.post("/v1/completions", json=body))
                while 'path="/v1/models' not in (await http.get("/metrics")).text:
                    await http.get("/v1/models")
                process.send_signal(signal.SIGTERM)
                response = await answer  # what is under way is answered
                assert response.json()["routing"]["tasks"] == ["count"]
            out, err = await process.communicate()
            assert process.returncode == 0, err
            assert json.loads(out)["requests"] >= 7
            assert b"s3cret" not in out + err
        assert list((tmp_path / "cache").glob("mixture-costs-*.json"))

    asyncio.run(run())


def test_serve_refuses_before_anything_is_loaded(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "same")
    for words, problem in [
        (["--host", "0.0.0.0"], "is open to others"),
        (["--token-env", "NONE_SUCH"], "no environment variable"),
        (["--token-env", "KEY", "--admin-token-env", "KEY"], "everybody bears"),
    ]:
        assert main(["route", "serve", str(world / "nothing"), *words, "--json"]) == 2
        assert problem in json.loads(capsys.readouterr().out)["error"]["message"]
