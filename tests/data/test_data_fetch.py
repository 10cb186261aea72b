"""Finding and downloading files, against a real server on this machine."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hansa.base.errors import DataError
from hansa.data.fetch import Remote, cache_folder, fetch, find, folders

BODY = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves BODY: /good.bin whole, /cut.bin half and then hangs up."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/absent.bin":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[: len(BODY) // 2])
        if self.path == "/cut.bin":
            self.wfile.flush()
            self.connection.close()
            return
        if self.path == "/slow.bin":
            self.server.pause.wait(self.server.patience)  # type: ignore[attr-defined]
        self.wfile.write(BODY[len(BODY) // 2 :])

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("HANSA_OFFLINE", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    site = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.asked = []  # type: ignore[attr-defined]
    site.pause = threading.Event()  # type: ignore[attr-defined]
    site.patience = 0.5  # type: ignore[attr-defined]
    thread = threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield site
    site.shutdown()
    site.server_close()
    thread.join()


def at(server: ThreadingHTTPServer, name: str, digest: str = DIGEST) -> Remote:
    return Remote(f"http://127.0.0.1:{server.server_port}/{name}", digest)


def left_over() -> list[str]:
    place = cache_folder() / "toy"
    return sorted(p.name for p in place.glob("*") if not p.name.endswith(".lock"))


def test_download_once_and_keep(server: ThreadingHTTPServer) -> None:
    remote = at(server, "good.bin")
    path = fetch("toy", remote)
    assert path.read_bytes() == BODY
    assert fetch("toy", remote) == path
    assert server.asked == ["/good.bin"]  # type: ignore[attr-defined]
    assert left_over() == ["good.bin"]


@pytest.mark.parametrize(
    ("name", "digest", "words"),
    [
        ("cut.bin", DIGEST, "cut.bin could not be downloaded"),
        ("absent.bin", DIGEST, "404"),
        ("good.bin", "0" * 64, f"good.bin(.|\n)*expected sha256 {'0' * 64}(.|\n)*got .*{DIGEST}"),
    ],
)
def test_a_bad_download_leaves_nothing(
    server: ThreadingHTTPServer, name: str, digest: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        fetch("toy", at(server, name, digest))
    assert left_over() == []


def test_no_server(server: ThreadingHTTPServer) -> None:
    server.server_close()
    with pytest.raises(DataError, match=r"could not be downloaded(.|\n)*fix:"):
        fetch("toy", at(server, "good.bin"))


def test_two_processes_at_once(server: ThreadingHTTPServer) -> None:
    remote = at(server, "slow.bin")
    script = (
        "from hansa.data.fetch import Remote, fetch\n"
        f"print(len(fetch('toy', {remote!r}).read_bytes()))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ | {"X": "1"}
        )
        for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [int(text) for text in outputs] == [len(BODY)] * 2
    assert server.asked == ["/slow.bin"]  # type: ignore[attr-defined]


def test_a_killed_download_starts_afresh(server: ThreadingHTTPServer) -> None:
    server.patience = None  # type: ignore[attr-defined]
    remote = at(server, "slow.bin")
    script = f"from hansa.data.fetch import Remote, fetch; fetch('toy', {remote!r})"
    process = subprocess.Popen([sys.executable, "-c", script], env=dict(os.environ))
    while not server.asked and process.poll() is None:  # type: ignore[attr-defined]
        threading.Event().wait(0.01)
    process.kill()
    process.wait()
    server.pause.set()  # type: ignore[attr-defined]
    assert not (cache_folder() / "toy" / "slow.bin").exists()
    assert len(left_over()) == 1  # the dead process's part, swept away by the next
    assert fetch("toy", remote).read_bytes() == BODY
    assert left_over() == ["slow.bin"]


def test_offline_says_where_to_put_the_file(tmp_path: Path, store: Path) -> None:
    remote = Remote("http://example.invalid/thing.zip", DIGEST)
    with pytest.raises(DataError, match="HANSA_OFFLINE") as caught:
        fetch("toy", remote)
    for word in (remote.url, str(store / "toy"), str(tmp_path / "cache" / "toy")):
        assert word in str(caught.value)


def test_the_shared_folder_comes_before_the_cache(store: Path) -> None:
    for place in (cache_folder() / "toy", store / "toy"):
        place.mkdir(parents=True)
        (place / "a.bin").write_bytes(b"x")
    (cache_folder() / "toy" / "b.bin").write_bytes(b"x")
    assert folders("toy") == [store / "toy", cache_folder() / "toy"]
    assert find("toy", "a.bin") == [store / "toy" / "a.bin"]
    assert find("toy", "b.bin") == [cache_folder() / "toy" / "b.bin"]
    assert find("toy", "a.bin", "b.bin")[0].parent == cache_folder() / "toy"
    assert find("toy", "c.bin") == []


def test_a_cache_that_cannot_be_written(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("HANSA_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch("toy", at(server, "good.bin"))


def test_progress_is_shown_on_a_terminal(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    fetch("toy", at(server, "good.bin"))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "good.bin" in shown.err
