"""The page of an audit: it says what was found and how sure that is, whatever was found."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from hansa.audit.audit_tables import findings_table, verdict
from hansa.audit.forest import forest
from hansa.audit.run import audit
from hansa.report import RunFolder
from hansa.report.page import final, page_of
from hansa.report.writing import write_report

MADE: dict[str, Any] = {
    "name": "made",
    "rows": 500,
    "attributes": {"sex": {"men": 0.6, "women": 0.4}, "from <b>": {"here": 0.985, "far": 0.015}},
    "effects": {"sex": {"women": -0.3}},
    "seed": 3,
}
HOSTILE = "</script><script>alert(1)</script>"


def run(tmp_path: Path, **more: Any) -> RunFolder:
    return audit({"population": MADE, "budget": 60, **more}, tmp_path / "run", report=False)


def words(folder: RunFolder) -> str:
    text = write_report(folder).read_text()
    body = text[text.index("<body>") :]
    body = re.sub(r"<script.*?</script>", " ", body, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def test_a_page_says_what_was_asked_and_found(tmp_path: Path) -> None:
    agents = [{"name": HOSTILE, "attribute": "sex"}, {"name": "b", "attribute": "from <b>"}]
    folder = run(tmp_path, agents=agents, cross_check=0.1)
    said = words(folder)
    assert "not legal advice" in said
    assert "Audit of made population: sex, from <b>" in said
    assert "2 agents spent 120 queries on the recorded outcomes, about the 500 members" in said
    assert "29 CFR 1607.4 D" in said
    assert "Local Law 144" in said
    assert "far (small)" in said
    assert "men (reference)" in said
    assert "more queries" in said
    assert HOSTILE in said, "what is hostile is shown, as text"
    assert "<script>alert(1)</script>" not in write_report(folder).read_text()
    page = page_of(folder)
    assert page.name == "audit"
    assert page.called(folder) == "audit, neyman a_priori" or "audit, " in page.called(folder)
    assert final(folder).rows == findings_table(folder.read_json("audit.json")).rows


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"box": {"name": "disturbed", "of": "own", "refuse": 0.2}}, "queries were refused"),
        (
            {
                "box": {"name": "disturbed", "of": "own", "flip": 0.3},
                "cross_check": 0.4,
            },
            "The platform changes its answers",
        ),
        (
            {
                "liars": {"f": 1, "attack": "yes", "agents": ["a"]},
                "strategy": {"sampling": "uniform", "collaboration": "a_posteriori"},
                "agents": [{"name": n, "attribute": "sex", "budget": 200} for n in "abc"],
            },
            "What a reported does not fit what the others did",
        ),
        ({"population": {**MADE, "rate": 0.0}}, "undefined"),
    ],
)
def test_what_a_reader_has_to_know_stands_on_top(
    tmp_path: Path, more: dict[str, Any], text: str
) -> None:
    assert text in words(run(tmp_path, **more))


def test_charts_are_of_the_form_that_is_drawn(tmp_path: Path) -> None:
    folder = run(tmp_path)
    groups = folder.read_json("audit.json")["groups"]
    charts = forest(groups)
    assert [chart.title.text for chart in charts] == [
        "Differences to the reference group",
        "Ratios to the highest rate, against 0.8",
    ]
    for chart in charts:
        chart.to_dict()  # with Altair's own checks
    unknown = [{"group": "men", "difference": float("nan"), "ratio": float("nan")}]
    assert forest({"sex": unknown}) == []


def test_verdicts_in_words() -> None:
    assert verdict({"verdict": "undecided", "needed": 120}) == "undecided; 120 more queries"
    assert verdict({"verdict": "undecided", "needed": None}) == "undecided; by no number of queries"
    assert verdict({"verdict": "below"}) == "below (adverse impact)"
