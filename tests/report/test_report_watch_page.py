"""The live page: what its server answers and to whom, and what a browser makes of it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hansa.base.errors import ConfigError
from hansa.report import RunFolder
from hansa.report.folder import held
from hansa.report.live import page_server
from hansa.report.live.follower import Follower
from hansa.report.live.page_server import PageServer
from hansa.report.live.watched import Watched

from ..toy import chromium
from ..toy.waiting import until

EVIL = "<img src=x onerror=window.hurt=1>"
FACTS = {"better": "higher", "share": True, "label": "", "rank": 0}


def make(path: Path, nodes: int = 5, rounds: int = 8) -> RunFolder:
    config = {"verb": "learn", "algorithm": {"name": "dpsgd"}, "nodes": nodes, "rounds": 10}
    run = RunFolder.create(path, config, {"metrics": {"accuracy": FACTS}})
    for round in range(rounds):
        record(run, round, nodes)
    run.event("lost", nodes=[1], worker=0, why=EVIL, round=2)
    run.flush()
    return run


def record(run: RunFolder, round: int, nodes: int = 5) -> None:
    ids = np.arange(nodes)
    sent = 1000 * round * (1 + ids)
    run.record(round, "accuracy", (round + ids) / 20, node=ids, time=float(round), bytes=sent)
    run.record(round, "train_loss", 1 / (1 + round), time=float(round), bytes=int(sent.sum()))


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return make(tmp_path / "run")


@pytest.fixture
def server(run) -> Iterator[PageServer]:
    served = serve(run.path)
    yield served
    served.close()


def serve(*paths: Path, port: int = 0) -> PageServer:
    follower = Follower([Watched(path) for path in paths], every=0.05)
    follower.start()
    server = PageServer(follower, port)
    server.start()
    return server


def ask(server: PageServer, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Host": f"127.0.0.1:{server.port}", **headers}
    connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    return connection.getresponse()


def messages(response: http.client.HTTPResponse, count: int) -> list[tuple[str, dict]]:
    found: list[tuple[str, dict]] = []
    event = ""
    while len(found) < count:
        line = response.readline().decode().rstrip("\n")
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            found.append((event, json.loads(value)))
    return found


def test_the_page_is_whole_in_itself_and_only_its_own_script_runs(server):
    page = ask(server, "/")
    assert page.status == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    text = (page.read() + ask(server, "/page.js").read()).decode()
    outside = [word for word in ("https://", "//cdn", "@import", "innerHTML") if word in text]
    assert outside == []
    assert text.count("http://") == text.count("http://www.w3.org/2000/svg")


@pytest.mark.parametrize(
    "path", ["/config.yaml", "/../config.yaml", "/..%2f..%2fetc/passwd", "/?a", "/events/x"]
)
def test_no_address_leads_to_a_file(server, path):
    assert ask(server, path).status == 404


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {"Host": "evil.example"}),
        ("/events", {"Host": "evil.example:80"}),
        ("/events", {"Host": ""}),
        ("/events", {"Origin": "http://evil.example"}),
        ("/events", {"Sec_Fetch_Site": "cross-site"}),
        ("/page.js", {"Sec_Fetch_Site": "same-site"}),
    ],
)
def test_who_is_asked_for_by_another_name_or_from_another_site_says_nothing(server, path, headers):
    answer = ask(server, path, **headers)
    assert answer.status == 421
    assert b"hansa" not in answer.read().lower()


def test_it_listens_on_loopback_only_and_by_both_names(server):
    assert server.url == f"http://127.0.0.1:{server.port}/"
    assert server._http.server_address[0] == "127.0.0.1"
    assert ask(server, "/", Host=f"localhost:{server.port}").status == 200


def test_other_methods_and_half_requests_do_no_harm(server):
    for text in (b"POST / HTTP/1.1\r\n\r\n", b"\x16\x03\x01nonsense\r\n\r\n", b"GET"):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(text)
    assert ask(server, "/").status == 200


def test_a_stream_tells_all_at_once_and_then_what_is_new(run, server):
    stream = ask(server, "/events")
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    (kind, every), (_, nodes) = messages(stream, 2)
    assert (kind, every["runs"][0]["round"]) == ("runs", 7)
    assert nodes["node"] == [0, 1, 2, 3, 4]
    record(run, 8)
    run.flush()
    while messages(stream, 1)[0][1].get("runs", [{"round": 0}])[0]["round"] != 8:
        pass
    run.finish({"status": "finished"})
    while messages(stream, 1)[0][0] != "over":
        pass
    until(lambda: server.told, "the word that all is over")
    assert server.follower.over


def test_only_so_many_pages_are_served_at_a_time(server, monkeypatch):
    monkeypatch.setattr(page_server, "_PAGES", 2)
    open_ = [ask(server, "/events") for _ in range(2)]
    assert [messages(one, 1)[0][0] for one in open_] == ["runs", "runs"]
    assert ask(server, "/events").status == 503
    assert ask(server, "/").status == 200


def test_a_taken_port_is_named_but_the_usual_one_gives_way(run, server, monkeypatch):
    monkeypatch.setattr(page_server, "PORT", server.port)
    follower = server.follower
    with pytest.raises(ConfigError, match="is taken"):
        PageServer(follower, server.port)
    other = PageServer(follower)
    assert other.port != server.port
    other._http.server_close()


def test_a_folder_that_breaks_is_told_and_comes_back(run, server):
    config = run.path / "config.yaml"
    text = config.read_text()
    stream = ask(server, "/events")
    messages(stream, 2)
    config.write_text("nodes: [")
    while not (every := messages(stream, 1)[0][1]).get("runs", [{}])[0].get("problems"):
        pass
    assert "config.yaml" in every["runs"][0]["problems"][0]
    config.write_text(text)
    while messages(stream, 1)[0][1].get("runs", [{"problems": [1]}])[0]["problems"]:
        pass


def test_what_ends_the_looking_is_raised_where_it_is_waited_for(run, monkeypatch):
    follower = Follower([Watched(run.path)], every=0.01)
    follower.start()
    monkeypatch.setattr(follower.runs[0], "update", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        follower.until_over()
    follower.close()


needs_browser = pytest.mark.skipif(chromium.find() is None, reason="there is no Chromium here")


@pytest.mark.browser
@needs_browser
def test_a_browser_draws_a_run_that_goes_on_until_its_end(run, tmp_path):
    with held(run.path), chromium.Chromium(tmp_path / "profile") as page:
        server = serve(run.path)
        page.goto(server.url)
        page.wait("document.title.startsWith('dpsgd 7/10 running')")
        page.wait("document.querySelectorAll('#charts polyline').length >= 3")
        assert page.ask("document.querySelectorAll('#charts polygon').length") >= 1
        assert "NaN" not in page.ask("document.getElementById('charts').innerHTML")
        assert "nodes lost" in page.ask("document.querySelector('#charts .key').textContent")
        # what a run says is text, whatever it looks like
        assert EVIL in page.ask("document.getElementById('events').textContent")
        assert page.ask("[window.hurt === undefined, document.images.length]") == [True, 0]
        rows = "[...document.querySelectorAll('#nodes tbody tr')].map(r => r.cells[0].textContent)"
        assert page.ask(rows) == ["1 (gone)", "0", "2", "3", "4"]
        # sorted from the keyboard, the focus stays
        page.ask("document.querySelector('#nodes [data-key=\"figure accuracy\"]').focus()")
        page.ask("document.activeElement.click()")
        assert page.ask(rows) == ["4", "3", "2", "1 (gone)", "0"]
        assert page.ask("document.activeElement.closest('th').ariaSort") == "descending"
        # a chart is read by arrow keys
        page.ask("document.querySelector('.chart').focus()")
        page.key("ArrowLeft")
        tip = "document.querySelector('.chart .tip').textContent"
        assert "round 7" in page.wait(tip)
        page.key("ArrowLeft")
        page.wait(tip, lambda text: "round 6" in text and "40.00 %" in text)
        # the server goes and comes back: the page finds it by itself
        port = server.port
        server.close()
        page.wait("document.getElementById('link').textContent", lambda text: "again" in text)
        record(run, 8)
        run.flush()
        server = serve(run.path, port=port)
        page.wait("document.title.startsWith('dpsgd 8/10 running')")
        for width, dark in ((360, False), (1400, True)):
            page.emulate(width, 900, dark)
            page.wait("document.documentElement.scrollWidth <= window.innerWidth")
            page.wait("document.querySelectorAll('#charts polyline').length >= 3")
        run.finish({"status": "finished"})
        page.wait("document.getElementById('state').textContent === 'finished'")
    assert page.errors == []
    server.close()


@pytest.mark.browser
@needs_browser
def test_a_browser_shows_several_sites_together_and_each_alone(tmp_path):
    runs = [make(tmp_path / name, nodes=3, rounds=k) for k, name in ((4, "north"), (6, "south"))]
    server = serve(*(run.path for run in runs))
    with chromium.Chromium(tmp_path / "profile") as page:
        page.goto(server.url)
        page.wait("document.getElementById('title').textContent === '2 runs'")
        page.wait("document.querySelectorAll('#charts .card:first-child polyline').length === 2")
        page.wait("document.querySelectorAll('#nodes tbody tr').length === 6")
        page.ask("document.querySelector('#runs button[data-index=\"1\"]').focus()")
        page.ask("document.activeElement.click()")
        page.wait("document.getElementById('where').textContent.includes('south')")
        assert page.ask("document.querySelectorAll('#nodes tbody tr').length") == 3
        record(runs[1], 6, nodes=3)  # what is chosen stays, and so does the focus
        runs[1].flush()
        page.wait("document.title.startsWith('dpsgd 6/10')")
        assert page.ask("document.activeElement.dataset.index") == "1"
        page.ask("document.querySelector('#runs button[data-index=all]').click()")
        page.wait("document.querySelectorAll('#nodes tbody tr').length === 6")
        assert page.errors == []
    server.close()
