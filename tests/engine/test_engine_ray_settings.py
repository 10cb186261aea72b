"""What is refused before Ray is asked: addresses, tokens, devices, a Ray that is not there."""

import http.server
import importlib.util
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hansa.base.errors import ConfigError, RunError
from hansa.engine.runtimes import ray_launcher
from hansa.engine.runtimes.ray import Ray, check_token, probe
from hansa.engine.runtimes.ray_driver import told
from hansa.engine.runtimes.ray_launcher import RayLauncher


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who listens and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as ear:
        yield f"127.0.0.1:{ear.getsockname()[1]}"


@pytest.fixture
def web() -> Iterator[str]:
    """The address of a web server."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_where_nobody_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ear:
        port = ear.getsockname()[1]
    with pytest.raises(ConfigError, match="refused") as caught:
        probe(f"127.0.0.1:{port}")
    assert caught.value.field == "address"
    assert "ray start" in caught.value.fix


def test_an_address_where_somebody_else_is(silent: str, web: str) -> None:
    with pytest.raises(ConfigError, match="does not answer in 2 s"):
        probe(silent)
    with pytest.raises(ConfigError, match="is not Ray's"):
        probe(web)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "127.0.0.1", "host:", ":1", "a:b"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        probe(address)
    assert caught.value.field == "address"
    assert caught.value.fix


@pytest.mark.parametrize("word", ["local", "auto"])
def test_a_word_for_an_address_is_answered_with_the_way_to_a_ray_of_ones_own(word: str) -> None:
    with pytest.raises(ConfigError, match=r"is no host:port\n.*without an address \(runtime=ray\)"):
        probe(word)


def test_a_cluster_is_not_gone_to_without_a_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="needs the cluster's token"):
        check_token()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    check_token()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ConfigError):
        check_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch()
    check_token()


def test_a_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        Ray().check(8)
    assert "pip install 'hansa[ray]'" in caught.value.fix


def test_more_actors_than_nodes() -> None:
    with pytest.raises(ConfigError, match="more than the 3 nodes"):
        Ray(workers=4).check(3)


def test_a_gpu_is_one_that_ray_has_given() -> None:
    with pytest.raises(ConfigError, match="without a cuda") as caught:
        Ray().check_device("cuda")
    assert caught.value.field == "runtime.gpus"
    with pytest.raises(ConfigError, match="another GPU") as caught:
        Ray(gpus=0.5).check_device("cuda:1")
    assert caught.value.field == "device"
    Ray(gpus=0.5).check_device("cuda")
    Ray().check_device("cpu")


def test_what_ray_says_of_a_loss_is_one_line() -> None:
    lost = told(RuntimeError("The actor died.\n\tactor_id: 7\n  node: 8\n" + "x" * 10_000))
    assert lost.startswith("was lost (RuntimeError: The actor died. actor_id: 7 node: 8 x")
    assert "\n" not in lost
    assert len(lost) < 500


DRIVER = """
import os, sys
from pathlib import Path
from hansa.base.packets import read_packet, write_packet
connect = read_packet(sys.stdin.buffer)["connect"]
count = Path(sys.argv[1])
starts = len(count.read_text()) if count.exists() else 0
count.write_text("x" * (starts + 1))
answers = [{"failed": word} for word in sys.argv[2:]] + [{"ready": "192.0.2.7"}]
write_packet(sys.stdout.buffer, answers[starts])
read_packet(sys.stdin.buffer)
"""
"""Stands in for the process that speaks to Ray: each start answers as it is told to."""
SLOW = "Exception: The current node timed out during startup."


@pytest.mark.parametrize(
    ("failures", "starts"),
    [((), 1), ((SLOW,), 2), ((SLOW, SLOW), 3), ((SLOW,) * 3, 3), (("x",), 1)],
)
def test_a_ray_that_a_busy_machine_starts_too_slowly_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: tuple[str, ...], starts: int
) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    words = [str(tmp_path / "driver.py"), str(tmp_path / "count"), *failures]
    monkeypatch.setattr(ray_launcher, "_DRIVER", (sys.executable, *words))
    share = {"cpus": 1.0, "gpus": 0.0}
    launcher = RayLauncher(tmp_path / "logs", "", 2, 2, share, patience=60.0)
    try:
        if failures and (failures[0] != SLOW or len(failures) == 3):
            with pytest.raises(RunError, match="Ray does not start: "):
                launcher.ready(240.0)
        else:
            assert launcher.ready(240.0) == "192.0.2.7"
    finally:
        launcher.close()
    assert len((tmp_path / "count").read_text()) == starts
    assert not Path(launcher.folder).exists()
