"""``hansa infer serve`` and ``hansa infer member`` as commands: started, asked, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import yaml

from hansa import export, open_run
from hansa.base.errors import ConfigError
from hansa.cli import main
from hansa.cli.serving import _member, opened
from hansa.infer.serving.serve_file import ServeFile
from hansa.infer.serving.serve_model import aggregate_of
from hansa.infer.serving.v2_app import V2App
from hansa.serving.listening import Listening, bound, is_loopback

from .serving_stubs import CLASSES, Reply, Stub, outputs_of, question, says, signed_certificate


@contextlib.asynccontextmanager
async def command(*words: str, **environment: str) -> AsyncIterator[tuple[str, Any]]:
    """A command that serves: its address, and its process; it is over at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hansa.cli", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )  # fmt: skip
    try:
        stream = process.stderr if "--json" in words else process.stdout
        assert stream is not None
        line = (await stream.readline()).decode()
        address = re.search(r"https?://[\w.:\[\]]+", line)
        assert address, line + (await process.stderr.read()).decode()  # type: ignore[union-attr]
        yield address[0], process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def file_at(path: Path, stubs: list[Stub], **changes: Any) -> Path:
    file = path / "serve.yaml"
    settings = {
        "verb": "serve", "classes": list(CLASSES), "deadline_ms": 60_000,
        "member_deadline_ms": 60_000, "endpoints": [{"url": stub.url} for stub in stubs],
        **changes,
    }  # fmt: skip
    file.write_text(yaml.safe_dump(settings))
    return file


def test_it_serves_until_it_is_asked_to_end_and_answers_what_is_under_way(tmp_path: Path) -> None:
    asked, gate = asyncio.Event(), asyncio.Event()

    async def waits(request: dict[str, Any]) -> Reply:
        asked.set()
        await gate.wait()
        return await says(0.8, 0.1, 0.1)(request)

    async def run() -> None:
        stubs = [await Stub(waits).start() for _ in range(3)]
        file = file_at(tmp_path, stubs)
        words = ["infer", "serve", str(file), "--port", "0", "--json", "--token-env", "KEY"]
        async with command(*words, KEY="s3cret") as (url, process):
            async with httpx.AsyncClient(base_url=url, timeout=120) as http:
                assert (await http.get("/v2/health/live")).status_code == 200
                assert (await http.get("/v2")).status_code == 401
                assert (await http.post("/v2/models/hansa/infer", json={})).status_code == 401
                http.headers["authorization"] = "Bearer s3cret"
                assert (await http.get("/v2")).json()["name"] == "hansa"
                answer = asyncio.ensure_future(http.post("/v2/models/hansa/infer", json=question()))
                await asked.wait()
                process.send_signal(signal.SIGTERM)
                gate.set()
                response = await answer
                assert response.status_code == 200
                assert outputs_of(response)["class"] == ["a"]
            out, err = await process.communicate()
            assert process.returncode == 0, err
            said = json.loads(out)
            assert said == {"url": url, "model": "hansa", "requests": 1}
            assert b"s3cret" not in out + err
        for stub in stubs:
            await stub.kill()

    asyncio.run(run())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two digits nodes, and its average exported."""
    path = tmp_path_factory.mktemp("trained")
    words = "--set nodes=2 --set rounds=2 --set topology=ring --set train.strategy=looped"
    assert main([*f"learn {words} --no-report -q --out".split(), str(path / "run")]) == 0
    export(open_run(path / "run"), path / "model.safetensors", average=True)
    return path


def digits(count: int) -> tuple[np.ndarray, dict[str, Any]]:
    from sklearn.datasets import load_digits

    images = load_digits().images[:count, :, :, None].astype(np.float32)
    tensor = {
        "name": "input", "shape": list(images.shape), "datatype": "FP32",
        "data": images.ravel().tolist(),
    }  # fmt: skip
    return images, {"inputs": [tensor]}


def asked_of(model: Any, request: dict[str, Any], path: str = "") -> httpx.Response:
    """One question, without a port."""

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(V2App(model).app())
        async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
            where = path or f"/v2/models/{model.name}/infer"
            return await http.post(where, json=request)

    response = asyncio.run(run())
    asyncio.run(model.close())
    return response


def by_hand(path: Path, images: np.ndarray, node: int | None, average: bool) -> np.ndarray:
    run = open_run(path).trained()
    data = run.job.dataset
    x = torch.from_numpy(images)
    if data.scale is not None and data.shift is not None:
        x = x * data.scale + data.shift
    with torch.no_grad():
        scores = run.module(node, average)(x.permute(0, 3, 1, 2))
    return torch.softmax(scores.double(), 1).numpy()


@pytest.mark.parametrize(("client", "average"), [(1, False), (None, True)])
def test_a_member_of_a_run_answers_as_the_run_would(
    trained: Path, client: int | None, average: bool
) -> None:
    images, request = digits(4)
    model = _member(trained / "run", "member", client, average, False)
    response = asked_of(model, request)
    assert response.status_code == 200
    expected = by_hand(trained / "run", images, client, average)
    data = outputs_of(response)
    np.testing.assert_allclose(np.reshape(data["probabilities"], (4, 10)), expected, atol=1e-6)
    assert data["class"] == [str(k) for k in expected.argmax(1)]


def test_a_member_says_what_it_takes_and_refuses_all_else(trained: Path) -> None:
    _, request = digits(1)
    member = _member(trained / "model.safetensors", "member", None, False, False)
    about = member.metadata()
    assert about["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 8, 8, 1]}]
    (tensor,) = request["inputs"]
    cases = [
        ({"datatype": "FP64"}, "datatype is FP64, and the model takes FP32"),
        ({"shape": [1, 1, 8, 8]}, "the model takes [-1, 8, 8, 1]"),
        ({"data": [1.0]}, "has 1 elements"),
        ({"data": [float("nan")] * 64}, "not finite"),
        ({"name": "x"}, "'x' is no input of the model: input"),
    ]
    for change, said in cases:
        async_body = json.dumps({"inputs": [{**tensor, **change}]})

        async def run(body: str = async_body) -> httpx.Response:
            transport = httpx.ASGITransport(V2App(member).app())
            async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
                return await http.post("/v2/models/member/infer", content=body)

        response = asyncio.run(run())
        assert response.status_code == 400
        assert said in response.json()["error"]
    asyncio.run(member.close())


def test_the_protocol_s_other_paths(trained: Path) -> None:
    member = _member(trained / "model.safetensors", "member", None, False, False)

    async def run() -> None:
        transport = httpx.ASGITransport(V2App(member, limit=100).app())
        async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
            for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/member/ready"):
                assert (await http.get(path)).status_code == 200
            assert (await http.get("/v2/models/member/versions/1")).json()["versions"] == ["1"]
            for path in ("/v2/models/other", "/v2/models/member/versions/2", "/v3"):
                response = await http.get(path)
                assert response.status_code == 404
                assert set(response.json()) == {"error"}
            assert (await http.get("/v2/models/member/infer")).status_code == 405
            response = await http.post("/v2/models/member/infer", content=b"x" * 101)
            assert response.status_code == 413

            async def endless() -> AsyncIterator[bytes]:
                for _ in range(3):
                    yield b"x" * 50

            response = await http.post("/v2/models/member/infer", content=endless())
            assert response.status_code == 413
            binary = {"inference-header-content-length": "3"}
            response = await http.post("/v2/models/member/infer", content=b"{}", headers=binary)
            assert response.status_code == 415

    asyncio.run(run())
    asyncio.run(member.close())


def test_what_was_not_expected_is_an_error_too(trained: Path) -> None:
    member = _member(trained / "model.safetensors", "member", None, False, False)

    def breaks(stored: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("secret")

    member.scorer = breaks

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(V2App(member).app(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
            return await http.post("/v2/models/member/infer", json=digits(1)[1])

    response = asyncio.run(run())
    assert response.status_code == 500
    assert response.json() == {"error": "this was not expected: RuntimeError"}
    asyncio.run(member.close())


def test_a_member_over_tls_with_a_token(trained: Path, tmp_path: Path) -> None:
    """The command, as an aggregate reaches it: certificate trusted, token borne."""
    cert, key = signed_certificate(tmp_path)
    _, request = digits(2)

    async def run() -> None:
        words = [
            "infer", "member", str(trained / "model.safetensors"), "--port", "0",
            "--tls-cert", str(cert), "--tls-key", str(key), "--token-env", "KEY",
        ]  # fmt: skip
        async with command(*words, KEY="s3cret") as (url, process):
            assert url.startswith("https://127.0.0.1:")
            endpoint = {"url": url, "token": "KEY", "ca": str(cert)}
            file = ServeFile.parse({
                "classes": [str(k) for k in range(10)], "f": 0, "endpoints": [endpoint],
                "deadline_ms": 60_000, "member_deadline_ms": 60_000,
            })  # fmt: skip
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("KEY", "s3cret")
                model = aggregate_of(file)
                patch.setenv("KEY", "another")
                strange = aggregate_of(file)
            assert await model.ready()
            assert not await strange.ready()
            transport = httpx.ASGITransport(V2App(model).app())
            async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
                response = await http.post("/v2/models/hansa/infer", json=request)
                assert response.status_code == 200, response.text
                assert response.json()["parameters"]["member.m0"] == "ok"
            context = ssl.create_default_context(cafile=str(cert))
            async with httpx.AsyncClient(verify=context, base_url=url) as http:
                assert (await http.get("/v2/models/member")).status_code == 401
            await model.close()
            await strange.close()
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
            assert process.returncode == 0, err
            assert out.decode().endswith("requests answered\n")
            assert b"s3cret" not in out + err

    asyncio.run(run())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"f": 2}, "f = 2: of 3 members cannot be outvoted"),
        ({"quorum": 2}, "quorum = 2: is not from 3 to 3"),
        ({"classes": ["a"]}, "classes = ['a']: there are two at least"),
        ({"classes": [True, False]}, "holds what is no name"),
        ({"endpoints": []}, "there is no member to ask"),
        ({"endpoints": [{"url": "x"}] * 3}, "endpoints.0.url = 'x': is no address"),
        ({"aggregator": {"name": "trimmed_mean", "f": 2}}, "trimmed_mean needs 5 members"),
        ({"aggregator": "mean", "run": "x"}, "and aggregator: one of them"),
        ({"pick": "x"}, "there is no run to pick from"),
        ({"inputs": [{"name": "x", "datatype": "FLOAT", "shape": [-1]}]}, "is no datatype"),
        ({"deadline": 3}, "deadline"),
    ],
)
def test_a_file_that_cannot_work_is_refused_before_anything_listens(
    changes: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in (1, 2, 3)]
    settings = {
        "verb": "serve", "classes": list(CLASSES), "endpoints": [{"url": url} for url in urls]
    }  # fmt: skip
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump({**settings, **changes}))
    assert main(["infer", "serve", str(file), "--port", "0"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"token": "NO_SUCH_VARIABLE"}, "endpoints.0.token = 'NO_SUCH_VARIABLE'"),
        ({"url": "http://far.example", "token": "KEY"}, "would travel where others can read it"),
        ({"ca": "ca.pem"}, "is for https"),
        ({"name": "m1"}, "endpoints = 'm1': names two members"),
    ],
)
def test_a_member_that_cannot_be_asked_is_named(
    changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    endpoints = [{"url": f"http://127.0.0.1:{port}"} for port in (1, 2, 3)]
    endpoints[0] |= changes
    with pytest.raises(ConfigError) as error:
        aggregate_of(ServeFile.parse({"classes": list(CLASSES), "endpoints": endpoints}))
    assert said in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port = {port}: cannot be listened on"):
            bound("127.0.0.1", port)


def test_answers_do_not_wait_for_nagle_s_algorithm() -> None:
    """asyncio switches it off only where a socket says that it speaks TCP."""
    with bound("127.0.0.1", 0) as sock:
        assert sock.proto == socket.IPPROTO_TCP


def test_strangers_need_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="open to others"):
        Listening(host="0.0.0.0").checked()
    assert Listening(host="0.0.0.0", insecure=True).checked() is None
    monkeypatch.setenv("KEY", "s3cret")
    assert Listening(host="0.0.0.0", token_env="KEY").checked() == "s3cret"
    monkeypatch.setenv("KEY", "two words")
    with pytest.raises(ConfigError, match="token_env") as error:
        Listening(token_env="KEY").checked()
    assert "two words" not in str(error.value)
    with pytest.raises(ConfigError, match="tls_key"):
        Listening(cert=tmp_path / "x.pem").checked()
    cert, _ = signed_certificate(tmp_path)
    with pytest.raises(ConfigError, match="tls_cert"):
        Listening(cert=cert, key=cert).checked()
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "10.0.0.1", "x")] == [
        True, True, True, False, False
    ]  # fmt: skip


def test_without_the_libraries_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'hansa\[serve\]'"):
        Listening().checked()


def test_sources_that_are_none_are_named(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    for source, said in (
        (tmp_path / "nothing", "no such file"),
        (tmp_path / "x.txt", "of no known kind"),
    ):
        with pytest.raises(ConfigError, match=said):
            _member(source, "member", None, False, False)
    with pytest.raises(ConfigError, match="a model of each of 2 nodes"):
        _member(trained / "run", "member", None, False, False)


def test_members_and_the_rule_of_an_ensemble(tmp_path: Path) -> None:
    """Each client's member, and the rule that was kept over their scores: as predicting is."""
    from hansa.combine.ensemble.store import load

    settings = {
        "verb": "combine", "clients": 3, "local": {"epochs": 2}, "rules": ["voting", "average"],
        "data": {"name": "digits", "train_samples": 300}, "choose": "voting",
    }  # fmt: skip
    file = tmp_path / "ensemble.yaml"
    file.write_text(yaml.safe_dump(settings))
    run = tmp_path / "run"
    assert main(["combine", "ensemble", str(file), "--out", str(run), "-q", "--no-report"]) == 0
    images, request = digits(6)
    whole = load(run / "ensemble")
    expected = whole(whole.prepared(torch.from_numpy(images)))

    members = [_member(run, "member", client, False, False) for client in range(3)]
    scores = []
    for k, member in enumerate(members):
        response = asked_of(member, request)
        data = outputs_of(response)
        alone = whole.members[k](whole.prepared(torch.from_numpy(images))).detach()
        np.testing.assert_allclose(np.reshape(data["scores"], (6, 10)), alone, atol=1e-5)
        scores.append(data["scores"])
    one = asked_of(_member(run, "all", None, False, False), request)
    assert outputs_of(one)["class"] == [str(k) for k in expected.argmax(1).tolist()]

    chosen = ServeFile.parse({
        "ensemble": str(run), "endpoints": [{"url": f"http://127.0.0.1:{k}"} for k in (1, 2, 3)],
    })  # fmt: skip
    model = aggregate_of(*opened(chosen, False))
    rows = np.reshape(scores, (3, 6, 10)).transpose(1, 0, 2)
    answers = model.answerer.answers(np.ascontiguousarray(rows), range(3))
    assert [answer.class_index for answer in answers] == expected.argmax(1).tolist()
    with pytest.raises(ConfigError, match="none of the ensemble's"):
        _member(run, "member", 7, False, False)
