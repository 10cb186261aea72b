"""Devices that differ: their figures by hand, their tables, and what a run on them costs."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError, DataError
from hansa.base.modules import load_module
from hansa.base.streams import Streams
from hansa.engine import Block, Clock, DevicesClock, Job, Profiles, Send
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.faults import Faults
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.topology import Graph

ONE = ({"title": "only", "share": 1, "sample_ms": 162.0, "up_kbps": 5648, "down_kbps": 5648},)


def one(**changes: Any) -> dict[str, Any]:
    return {"name": "classes", "classes": [{**ONE[0], "latency": 0, **changes}]}


def clock(**settings: Any) -> DevicesClock:
    return DevicesClock.parse(settings)


@pytest.fixture(scope="module")
def block(make_job: Callable[..., Job]) -> Block:
    return make_job({"nodes": 8}).block(np.arange(8))


# -- the clock -------------------------------------------------------------------------------------


def test_the_figures_of_the_trace(block: Block) -> None:
    """Device 432802 of FedScale (spec B-6)."""
    ids, size = np.array([0]), np.array([341_416])
    device = clock(profiles=one())
    assert device.pace(block, ids)[0] * 5 * 20 == pytest.approx(48.6, rel=1e-12)
    assert device.up_seconds(block, ids, size)[0] == pytest.approx(0.484, abs=1e-3)
    assert device.down_seconds(block, ids, size)[0] == pytest.approx(0.484, abs=1e-3)
    binary = clock(profiles=one(), kilobit=1024)
    assert binary.up_seconds(block, ids, size)[0] == pytest.approx(0.472, abs=1e-3)
    bare = clock(profiles=one(), passes=1.0)
    assert bare.pace(block, ids)[0] == pytest.approx(0.162, rel=1e-12)
    late = clock(profiles=one(latency=0.25))
    assert late.up_seconds(block, ids, size)[0] == pytest.approx(0.734, abs=1e-3)


def test_compute_scales_with_the_model_if_asked(block: Block) -> None:
    size = block.trainer.layout.trainable
    scaled = clock(profiles=one(), reference_parameters=2 * size)
    plain = clock(profiles=one())
    assert scaled.pace(block, block.ids) == pytest.approx(plain.pace(block, block.ids) / 2)


@pytest.mark.parametrize("name", ["devices", "modelled", "phones"])
def test_any_worker_can_ask_about_any_node(make_job: Callable[..., Job], name: str) -> None:
    job = make_job({"nodes": 8, "clock": name})
    whole, part = job.block(np.arange(8)), job.block(np.array([2]))
    sizes, ids = np.arange(8) * 1000, np.arange(8)
    for ask in (
        lambda b: job.clock.pace(b, ids),
        lambda b: job.clock.up_seconds(b, ids, sizes),
        lambda b: job.clock.down_seconds(b, ids, sizes),
    ):
        assert ask(part).tolist() == ask(whole).tolist()
        assert (ask(whole) >= 0).all()
        assert np.isfinite(ask(whole)).all()
    assert job.clock.available(part, ids, 1e9).all()
    assert job.clock.leaves(part, ids, 0.0).tolist() == [np.inf] * 8
    assert job.clock.returns(part, ids, 3.0).tolist() == [3.0] * 8
    done = job.clock.finish(whole, np.full(8, 10))
    job.clock.compute(whole, np.full(8, 10))
    assert whole.state["modelled_time"].tolist() == done.tolist()
    assert whole.state["compute_time"].tolist() == done.tolist()


@pytest.mark.parametrize("name", ["devices", "modelled", "phones"])
def test_servers_have_no_limits(make_job: Callable[..., Job], name: str) -> None:
    settings: dict[str, Any] = {"name": name}
    if name == "devices":
        settings["availability"] = {"name": "periods", "there": 1.0, "away": 1e6}
    if name != "modelled":
        settings |= {"battery_share": 0.5, "send_joules_per_byte": 1.0}
    job = make_job({"nodes": 4, "clock": settings})
    job.network = type(job.network)(job.network.topology, 5, job.streams, 1)
    job.__dict__.pop("roster", None)  # of the network that it was prepared with
    block = job.block(np.arange(5))
    assert block.clients == 4
    last, load = np.array([4]), np.array([10**9])
    ask = job.clock
    assert ask.pace(block, last).tolist() == [0]
    assert ask.up_seconds(block, last, load).tolist() == [0]
    assert ask.down_seconds(block, last, load).tolist() == [0]
    assert ask.available(block, last, 12345.0).tolist() == [True]
    assert ask.leaves(block, last, 12345.0).tolist() == [np.inf]
    assert ask.returns(block, last, 12345.0).tolist() == [12345.0]
    awake = ask.awake(block)
    assert awake is None or awake[4]
    ask.send(block, np.full(5, 1000))
    assert block.state["energy"][4] == 0
    assert block.state["transfer_time"][4] == 0
    assert name == "modelled" or block.state["energy"][0] == 1000


def test_a_round_of_three_by_hand(make_job: Callable[..., Job]) -> None:
    """Compute, then upload, then download of all that came; what is left of the time is idle."""
    job = make_job({"nodes": 3, "topology": "ring"})
    devices = [
        {"title": "slow", "share": 1, "sample_ms": 1000, "up_kbps": 0.8, "down_kbps": 1.6},
    ]
    mine = clock(profiles={"name": "classes", "classes": devices}, passes=1)
    block = job.block(np.arange(3))
    mine.compute(block, np.array([4, 8, 0]))
    rows, line = block.rows[:, :9].clone(), Graph.from_edges(3, [0, 1], [1, 2], symmetric=True)
    assert 9 * 4 + HEADER_BYTES == 100
    # 100 bytes a second up, 200 down, 0.02 s at either end. The ends send 100 bytes, the middle
    # 200: at the receivers' doors at 5.04, 10.04 and 1.04. Then 200 bytes for the middle, 100 for
    # each end.
    Exchange(mine)(block, Send(rows, line), 0, 0)
    time = block.state["modelled_time"].numpy()
    np.testing.assert_allclose(time, [10.54, 9.0, 10.54], rtol=1e-12)
    np.testing.assert_allclose(block.state["compute_time"], [4, 8, 0])
    # The middle was busy when its messages came, so it waited for no latency.
    np.testing.assert_allclose(block.state["transfer_time"], [1.54, 3.02, 1.54], rtol=1e-9)


def test_a_download_takes_what_was_said(make_job: Callable[..., Job]) -> None:
    """From a server and to it, the exchange agrees with down_seconds and up_seconds."""
    for name in ("devices", "modelled", "phones"):
        job = make_job({"nodes": 4, "clock": name})
        job.network = type(job.network)(job.network.topology, 5, job.streams, 1)
        block = job.block(np.arange(5))
        clients, size = np.arange(4), np.full(4, 10_000)
        indptr = np.array([0, 1, 2, 3, 4, 4])
        sent = job.clock.send(block, np.array([0, 0, 0, 0, 40_000]))
        job.clock.receive(block, np.append(size, 0), indptr, np.full(4, sent[4]))
        took = block.state["modelled_time"].numpy()[:4]
        np.testing.assert_allclose(took, job.clock.down_seconds(block, clients, size), rtol=1e-12)
        before = took.copy()
        there = job.clock.send(block, np.append(size, 0))[:4]
        np.testing.assert_allclose(
            there - before, job.clock.up_seconds(block, clients, size), rtol=1e-9
        )


def test_runs_on_devices_are_the_same_in_blocks_apart(
    make_job: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    changes = {"clock": {"name": "devices", "battery_share": 0.01}, "rounds": 3}
    whole, reports = host(make_job(changes))
    rows, state, _ = host_apart(lambda: make_job(changes), 2)
    assert torch.equal(rows, whole.rows)
    for name, value in whole.state.items():
        assert torch.equal(state[name], value), name
    counters = reports[-1]["counters"]
    assert (counters["compute_time"] > 0).all()
    assert (counters["transfer_time"] > 0).all()
    assert len(set(counters["compute_time"].tolist())) == 8


def test_empty_batteries_stop_training(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    work = 2 * 8 * 3 * 0.162 * 5.0  # J a round: two steps of 8 examples at 5 W
    share = 2.5 * work / (15 * 3600)
    job = make_job({"clock": {"name": "devices", "profiles": one(), "battery_share": share}})
    block, _ = host(job)
    assert block.state["training_rounds"].tolist() == [2] * 8
    assert block.state["battery_rounds"].tolist() == [2] * 8
    assert block.state["battery_left"].numpy() == pytest.approx(0.5 * work)


# -- where figures come from -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lognormal", "classes", "fedscale_like"])
def test_tables_are_the_seed_s(name: str) -> None:
    source = Profiles.resolve(name)
    one, two, other = (source.deal(Streams(seed), 50) for seed in (1, 1, 2))
    for column in ("sample_ms", "up_kbps", "down_kbps", "latency", "watts", "battery_wh"):
        values = getattr(one, column)
        assert values.shape == (50,)
        assert values.dtype == np.float64
        assert (values > 0).all()
        assert values.tolist() == getattr(two, column).tolist()
    assert one.sample_ms.tolist() != other.sample_ms.tolist()
    assert set(catalogue("profiles")) == {
        "classes",
        "fedscale",
        "fedscale_like",
        "file",
        "lognormal",
    }


def test_lognormal_has_its_medians() -> None:
    table = Profiles.resolve({"name": "lognormal"}).deal(Streams(5), 20_000)
    assert np.median(table.sample_ms) == pytest.approx(60, rel=0.03)
    assert np.log(table.sample_ms).std() == pytest.approx(0.8, rel=0.03)
    assert np.median(table.up_kbps) == pytest.approx(8000, rel=0.03)
    assert np.log(table.up_kbps).std() == pytest.approx(1.0, rel=0.03)
    assert table.down_kbps.tolist() == table.up_kbps.tolist()
    apart = Profiles.resolve({"name": "lognormal", "down_kbps": 4e4}).deal(Streams(5), 20_000)
    assert np.median(apart.down_kbps) == pytest.approx(4e4, rel=0.03)
    assert apart.up_kbps.tolist() == table.up_kbps.tolist()


def test_fedscale_like_has_the_statistics_it_names() -> None:
    table = Profiles.resolve("fedscale_like").deal(Streams(5), 20_000)
    assert np.median(table.up_kbps) == pytest.approx(6100, rel=0.03)
    assert (table.up_kbps < 3000).mean() == pytest.approx(0.26, abs=0.01)
    assert table.sample_ms.min() >= 15
    assert table.sample_ms.max() <= 199


def test_classes_have_their_shares() -> None:
    classes = [
        {"title": f"{ms}", "share": share, "sample_ms": ms, "up_kbps": 1000}
        for ms, share in ((1, 0.5), (2, 0.3), (3, 0.2))
    ]
    source = Profiles.resolve({"name": "classes", "classes": classes})
    table = source.deal(Streams(1), 10)
    assert np.bincount(table.sample_ms.astype(int)).tolist() == [0, 5, 3, 2]
    assert np.isinf(table.down_kbps).all()
    assert np.bincount(source.deal(Streams(1), 4).sample_ms.astype(int)).sum() == 4
    with pytest.raises(ConfigError, match="is there twice"):
        Profiles.resolve({"name": "classes", "classes": classes + classes[:1]}).check(10)


LINES = [
    {"id": "a", "sample_ms": 10, "up_kbps": 100},
    {"id": "b", "sample_ms": 20, "up_kbps": 200, "down_kbps": 900, "latency": 0.5, "watts": 3},
    {"id": "c", "sample_ms": 30, "up_kbps": 300, "battery_wh": 7},
]


def written(path: Path, lines: Any, kind: str) -> Path:
    file = path / f"devices.{kind}"
    if kind == "csv":
        head = ["id", "sample_ms", "up_kbps", "down_kbps", "latency", "watts", "battery_wh"]
        body = [",".join(str(line.get(name, "")) for name in head) for line in lines]
        file.write_text("\n".join([",".join(head), *body]))
    else:  # JSON is YAML
        file.write_text(json.dumps(lines))
    return file


@pytest.mark.parametrize("kind", ["csv", "json", "yaml"])
def test_tables_from_files(tmp_path: Path, kind: str) -> None:
    file = written(tmp_path, LINES, kind)
    source = Profiles.resolve({"name": "file", "file": str(file), "latency": 0.1, "watts": 4})
    table = source.deal(Streams(1), 3)
    assert table.sample_ms.tolist() == [10, 20, 30]
    assert table.down_kbps.tolist() == [100, 900, 300]
    assert table.latency.tolist() == [0.1, 0.5, 0.1]
    assert table.watts.tolist() == [4, 3, 4]
    assert table.battery_wh.tolist() == [15, 15, 7]
    drawn = Profiles.resolve({"name": "file", "file": str(file), "draw": "random"})
    assert sorted(drawn.deal(Streams(1), 3).sample_ms) == [10, 20, 30]
    with pytest.raises(ConfigError, match="has 3 devices for 4 clients"):
        source.check(4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"up_kbps": 0}, "device 'a': up_kbps = "),
        ({"up_kbps": "fast"}, "device 'a': up_kbps = 'fast'"),
        ({"sample_ms": float("nan")}, "device 'a': sample_ms = "),
        ({"latency": -1}, "device 'a': latency = "),
        ({"watts": float("inf")}, "device 'a': watts = "),
        ({"sample_ms": None}, "device 'a' has no sample_ms"),
        ({"speed": 3}, "no column 'speed'; known: id, sample_ms"),
    ],
)
def test_tables_that_make_no_sense(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    file = written(tmp_path, [{**LINES[0], **change}], "json")
    with pytest.raises(DataError, match=r"devices\.json") as caught:
        Profiles.resolve({"name": "file", "file": str(file)}).check(1)
    assert words in str(caught.value)


def test_files_that_are_not_there_or_of_no_known_form(
    tmp_path: Path, small: Callable[..., Any]
) -> None:
    from hansa.experiment import RunFile, prepare

    for name, file in (("file", "no.csv"), ("fedscale", "no")):
        profiles = {"name": name, "file": str(tmp_path / file)}
        with pytest.raises(ConfigError) as caught:
            prepare(RunFile.parse(small({"clock": {"name": "devices", "profiles": profiles}})))
        assert caught.value.field == "clock.profiles.file"
    (tmp_path / "devices.xlsx").write_text("")
    with pytest.raises(ConfigError, match=r"\.csv, \.json or \.yaml"):
        Profiles.resolve({"name": "file", "file": str(tmp_path / "devices.xlsx")}).check(1)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match=r"bad\.json"):
        Profiles.resolve({"name": "file", "file": str(tmp_path / "bad.json")}).check(1)


def test_fedscale_s_devices_are_dealt_once(tmp_path: Path, block: Block) -> None:
    trace = {k: {"computation": 10.0 + k, "communication": 1000.0 + k} for k in range(20)}
    trace[0] = {"computation": 162.0, "communication": 5648.0}
    file = tmp_path / "client_device_capacity"
    file.write_bytes(pickle.dumps(trace))
    source = Profiles.resolve({"name": "fedscale", "file": str(file)})
    table = source.deal(Streams(1), 20)
    assert len(set(table.sample_ms.tolist())) == 20
    assert table.up_kbps.tolist() == table.down_kbps.tolist()
    speed = {v["computation"]: v["communication"] for v in trace.values()}
    assert [speed[ms] for ms in table.sample_ms] == table.up_kbps.tolist(), "of the same device"
    ordered = clock(profiles={"name": "fedscale", "file": str(file), "draw": "order"})
    assert ordered.pace(block, np.array([0]))[0] * 100 == pytest.approx(48.6)
    with pytest.raises(ConfigError, match="20 devices for 21 clients"):
        source.check(21)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"passes": 0}, "clock.passes"),
        ({"kilobit": 1001}, "clock.kilobit"),
        ({"reference_parameters": 0}, "clock.reference_parameters"),
        ({"contention": "some"}, "clock.contention"),
        ({"profiles": {"name": "lognormal", "up_kbps": 0}}, "clock.profiles.up_kbps"),
        ({"profiles": {"name": "classes", "classes": []}}, "clock.profiles.classes"),
        ({"availability": {"name": "periods", "there": 0}}, "clock.availability.there"),
        ({"availability": {"name": "diurnal", "low": 0.9}}, "clock.availability.low"),
        ({"availability": {"name": "diurnal", "step": 1e5}}, "clock.availability.step"),
        ({"battery_share": 1e-9}, "clock.battery_share"),
    ],
)
def test_what_is_refused(small: Callable[..., Any], settings: dict[str, Any], field: str) -> None:
    from hansa.experiment import RunFile, prepare

    with pytest.raises(ConfigError) as caught:
        prepare(RunFile.parse(small({"clock": {"name": "devices", **settings}})))
    assert caught.value.field == field
    assert caught.value.fix


def test_contention_needs_all_nodes_in_one_place() -> None:
    clock(contention="fair").check_place(whole=True)
    clock().check_place(whole=False)
    with pytest.raises(ConfigError, match="one block") as caught:
        clock(contention="greedy").check_place(whole=False)
    assert caught.value.field == "contention"


def test_contention_slows_down_what_shares_a_link(make_job: Callable[..., Job]) -> None:
    """Three send 100 bytes to one: with fair sharing all arrive when the last does."""
    job = make_job({"nodes": 4})
    kind = [{"title": "x", "share": 1, "sample_ms": 1, "up_kbps": 8, "down_kbps": 0.8}]
    settings = {"profiles": {"name": "classes", "classes": kind}}
    senders, receivers, sizes = np.array([1, 2, 3]), np.zeros(3, dtype=int), np.full(3, 100)
    expected = {"none": [0.12] * 3, "fair": [3.04] * 3, "greedy": [1.04, 2.04, 3.04]}
    for contention, arrivals in expected.items():
        block = job.block(np.arange(4))
        mine = clock(**settings, contention=contention)
        got = mine.transfer(block, senders, receivers, sizes)
        np.testing.assert_allclose(got, arrivals, rtol=1e-12)
        mine.receive(block, np.array([300, 0, 0, 0]), np.array([0, 3, 3, 3, 3]), got)
        time = block.state["modelled_time"][0].item()
        assert time == pytest.approx(3.14 if contention == "none" else 3.04)
        assert block.state["transfer_time"][0].item() <= time


# -- the page about it -----------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "devices.md"


def shown(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("text", shown("yaml"))
def test_settings_on_the_page_are_settings(text: str) -> None:
    settings = yaml.safe_load(text)
    assert settings.keys() <= {"clock", "faults"}
    if "faults" in settings:
        Faults.model_validate(settings["faults"])
    if "clock" in settings:
        clock = Clock.resolve(settings["clock"])
        assert Clock.resolve(clock.dump()) == clock
        hash(clock)


def test_the_table_on_the_page_is_a_table(tmp_path: Path) -> None:
    file = tmp_path / "devices.csv"
    file.write_text(shown("text")[0])
    table = Profiles.resolve({"name": "file", "file": str(file)}).deal(Streams(1), 2)
    assert table.down_kbps.tolist() == [5648, 40000]
    assert table.latency.tolist() == [0.03, 0.02]


def test_the_source_on_the_page_is_a_source(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(shown("python")[0])
    load_module(str(file))
    table = Profiles.resolve("two_speeds").deal(Streams(1), 3)
    assert table.sample_ms.tolist() == [50, 500, 50]
    assert table.latency.tolist() == [0.02] * 3
