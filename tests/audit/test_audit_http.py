"""A platform behind HTTP: forms, accounts, waits, and answers that never come."""

from __future__ import annotations

import datetime
import email.utils
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.audit.asking import Asking
from hansa.audit.black_box import Barred, BlackBox, NotServed, Unanswered
from hansa.audit.boxes.http_box import _wait
from hansa.audit.boxes.query_forms import V2, Rows, Unreadable
from hansa.audit.ledger import Ledger
from hansa.audit.population import Attribute, Population
from hansa.audit.run import audit
from hansa.base.errors import ConfigError

from .stub_platform import Platform, serving

SEX = Attribute("sex", ("man", "woman"), (np.arange(8) % 2).astype(np.int16))
PEOPLE = Population({"sex": SEX}, ids=np.array([f"m{k}" for k in range(8)]))


@pytest.fixture
def platform() -> Iterator[Platform]:
    with serving(Platform(lambda row: "grant" if row["sex"] == "man" else None)) as one:
        yield one


def box(platform: Platform, **more: Any) -> Any:
    settings = {"name": "http", "url": f"{platform.url}/decide", "positive": "grant", **more}
    return BlackBox.resolve(settings)


def test_rows_are_sent_and_answers_read(platform: Platform) -> None:
    ask = box(platform, queries_a_call=3).opened(PEOPLE, ["sex"])
    assert ask(np.array([0, 1, 2]), "sex", "k-0").tolist() == [1, -1, 1]
    assert platform.served == [("", "m0", "k-0"), ("", "m1", "k-0"), ("", "m2", "k-0")]
    ask(np.array([0, 1, 2]), "sex", "k-0")
    assert len(platform.served) == 3, "a call that comes again under its key is counted once"


def test_an_agent_asks_from_its_own_account(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_AGE_DESK", "secret-1")
    chosen = box(platform, token="TOKEN_{agent}")
    chosen.opened(PEOPLE, ["age desk"])(np.array([0]), "age desk", "k")
    assert platform.served == [("secret-1", "m0", "k")]
    with pytest.raises(ConfigError, match="the environment has no TOKEN_SEX"):
        chosen.opened(PEOPLE, ["age desk", "sex"])
    assert len(platform.calls) == 1, "nothing is asked before all is in order"


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        (429, NotServed, "answers 429"),
        (503, NotServed, "answers 503"),
        (500, Unanswered, "answers 500"),
        (504, Unanswered, "answers 504"),
        (401, Barred, "answers 401"),
        (302, Barred, "answers 302"),
        ("drop", Unanswered, "connection broke"),
        ("garbage", Unanswered, "is no JSON"),
        ("hold", Unanswered, "no answer|connection broke"),
    ],
)
def test_what_a_status_says_of_a_query(
    platform: Platform, step: Any, kind: type[Exception], words: str
) -> None:
    platform.plan, platform.headers = [step], {"Retry-After": "7", "Location": "/elsewhere"}
    ask = box(platform, timeout=0.3 if step == "hold" else 30).opened(PEOPLE, ["sex"])
    with pytest.raises(kind, match=words) as error:
        ask(np.array([0]), "sex", "k")
    if isinstance(error.value, NotServed):
        assert error.value.wait == 7


def test_a_platform_that_is_not_there_took_no_query(platform: Platform) -> None:
    ask = box(platform, url="http://127.0.0.1:9/none").opened(PEOPLE, ["sex"])
    with pytest.raises(NotServed, match="cannot be reached"):
        ask(np.array([0]), "sex", "k")


def test_how_long_to_wait() -> None:
    assert _wait(None) is None
    assert _wait("3") == 3.0
    assert _wait("soon") is None
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    wait = _wait(email.utils.format_datetime(later, usegmt=True))
    assert wait is not None
    assert 90 < wait <= 100
    assert _wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_waits_are_kept_and_nothing_is_asked_twice(platform: Platform, tmp_path: Path) -> None:
    """429 with a wait, then a broken connection: the platform's own log is the judge."""
    platform.plan, platform.headers = [429, "serve", "drop"], {"Retry-After": "5"}
    waits: list[float] = []
    chosen = box(platform, repeats="free")
    ledger = Ledger.opened(tmp_path / "sex.jsonl", "sex", 8, "")
    all_ = Asking(chosen, chosen.opened(PEOPLE, ["sex"]), [ledger], sleep=lambda s: wait(s))
    clock = [0.0]

    def wait(seconds: float) -> None:
        waits.append(seconds)
        clock[0] += seconds

    all_.clock = lambda: clock[0]
    assert all_([np.array([0, 1, 2])])[0].tolist() == [1, -1, 1]
    members = [member for _, member, _ in platform.served]
    assert members == ["m0", "m1", "m2"]
    assert waits == [5.0, 1.0]
    assert (ledger.spent, ledger.again, len(platform.calls)) == (3, 1, 5)


def test_v2_is_spoken() -> None:
    with serving(Platform(lambda row: 0.9 if row["sex"] == "man" else 0.2, v2=True)) as platform:
        chosen = box(platform, url=platform.url, protocol="v2", model="loan", positive=None)
        ask = chosen.opened(PEOPLE, ["sex"])
        assert ask(np.array([0, 1]), "sex", "k").tolist() == [1, 0]
    with pytest.raises(ConfigError, match="V2 asks a model by name"):
        box(platform, protocol="v2").opened(PEOPLE, ["sex"])


def test_a_whole_audit_of_a_served_model_over_v2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a pace, told to wait now and then: no member twice, what a table would have said."""
    people = {"name": "made", "rows": 300, "attributes": {"sex": {"men": 0.5, "women": 0.5}}}
    numbers = "".join(f"{k},{k % 7 / 7:.3f}\n" for k in range(300))
    (tmp_path / "features.csv").write_text("member,risk\n" + numbers)
    clock = Clock()
    patient = partial(Asking, clock=lambda: clock.now, sleep=clock.sleep)
    monkeypatch.setattr("hansa.audit.run.Asking", patient)
    with serving(Platform(lambda row: 1 - float(row["risk"]), v2=True)) as platform:
        platform.plan, platform.headers = ["serve", 429, "serve", 503], {"Retry-After": "9"}
        box = {
            "name": "http", "url": platform.url, "protocol": "v2", "model": "loan",
            "features": str(tmp_path / "features.csv"), "queries_a_call": 8, "burst": 8,
            "queries_a_second": 4.0, "threshold": 0.6,
        }  # fmt: skip
        settings = {"population": people, "attributes": ["sex"], "budget": 100, "seed": 3}
        served = audit({**settings, "box": box}, tmp_path / "served", report=False)
        members = [member for _, member, _ in platform.served]
    assert len(set(members)) == len(members) == 100
    assert clock.now >= 100 / 4.0 + 2 * 9 - 8
    decided = "".join(f"{int(1 - k % 7 / 7 >= 0.6)}\n" for k in range(300))
    (tmp_path / "said.csv").write_text("said\n" + decided)
    table = {
        "name": "table", "path": str(tmp_path / "said.csv"), "decision": "said", "positive": 1,
    }  # fmt: skip
    by_table = audit({**settings, "box": table}, tmp_path / "table", report=False)
    assert served.summary is not None
    assert by_table.summary is not None
    assert served.summary["final"] == by_table.summary["final"]


class Clock:
    """Time that passes only where somebody sleeps."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def said(data: list[Any], shape: list[int], name: str = "out") -> bytes:
    output = {"name": name, "datatype": "FP32", "shape": shape, "data": data}
    return json.dumps({"outputs": [output]}).encode()


def test_v2_tensors() -> None:
    form = V2(None)
    records = [
        {"id": 1, "age": 20, "sex": "man", "risk": 0.5},
        {"id": 2, "age": None, "sex": None, "risk": 1},
    ]
    inputs = form.written(records, "k")["inputs"]
    assert [(one["name"], one["datatype"], one["data"]) for one in inputs] == [
        ("age", "FP64", [20, None]),
        ("sex", "BYTES", ["man", ""]),
        ("risk", "FP64", [0.5, 1]),
    ]
    merged = V2(None, merged="x").written([{"id": 1, "a": 1, "b": 0.5}], "k")["inputs"][0]
    assert merged == {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 0.5]}
    assert form.read(said([0.5, 0.4, None], [3, 1]), 3).tolist() == [1, 0, -1]
    assert V2("1").read(said([0.1, 0.9, 0.8, 0.2], [2, 2]), 2).tolist() == [1, 0]
    assert V2("yes").read(said(["yes", "no", ""], [3]), 3).tolist() == [1, 0, -1]
    assert V2(1).read(said([1, 0], [2, 1]), 2).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("form", "body", "words"),
    [
        (V2(None), b"[]", "is no object"),
        (V2(None), b"{}", "no outputs"),
        (V2(None, output="p"), said([1], [1]), "no output 'p'"),
        (V2(None), said([1, 0], [2]), "not of 1 rows"),
        (V2(None), said([1, 0, 1], [1, 2]), "not of 1 rows"),
        (V2(None), said([0.1, 0.9], [1, 2]), "no setting says which"),
        (V2(None), said(["a"], [1]), "is no number to compare"),
        (Rows(None), b'{"answers": [1, 0]}', "no list of 1 answers"),
        (Rows(None), b'{"answers": [{"said": 1}]}', "set field to where it stands"),
        (Rows(None), b'{"answers": [7]}', "neither 0 nor 1"),
        (Rows(None), b"<html>" + b"x" * 999, "is no JSON.*…"),
    ],
)  # fmt: skip
def test_answers_of_another_form_are_told(form: Any, body: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        form.read(body, 1)


def test_rows_with_decisions_in_a_field() -> None:
    form = Rows("approved", key="out", field="status")
    body = b'{"out": [{"status": "approved"}, {"status": "no"}, {"status": null}, null]}'
    assert form.read(body, 4).tolist() == [1, 0, -1, -1]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"url": "decide"}, "url"),
        ({"url": "https://me:secret@bank.example/decide"}, "url"),
        ({"queries_a_call": 4, "queries_a_second": 2.0}, "burst"),
        ({"certificates": "none.pem"}, "certificates"),
        ({"columns": ["income"]}, "columns"),
        ({"features": "none.csv"}, "features"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_sent(
    platform: Platform, more: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as error:
        box(platform, **more).opened(PEOPLE, ["sex"])
    assert error.value.field == field
    assert not platform.calls
