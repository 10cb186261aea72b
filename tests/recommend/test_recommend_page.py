"""The page of a recommender says what stands beside it, and how far ratings have spread."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from hansa.experiment import run
from hansa.recommend.beside import fallbacks, groups_table
from hansa.recommend.recommend_file import RecommendFile
from hansa.recommend.spreading import spread
from hansa.report import RunFolder
from hansa.report.charts import spec_of
from hansa.report.page import page_of
from hansa.report.run_page import RunPage
from hansa.report.writing import write_report

from .test_recommend_run import SMALL


def folder_of(place: Path, **more: object) -> RunFolder:
    return run(RecommendFile.parse({**SMALL, **more}), place / "run", report=False)


def words(folder: RunFolder) -> str:
    text = write_report(folder).read_text()
    body = re.sub(r"<script.*?</script>", " ", text[text.index("<body>") :], flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def test_a_page_says_what_is_simple_and_how_ratings_spread(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    said = words(folder)
    assert "rex on ring, 6 nodes" in said
    assert "isolated nodes" in said
    assert "central matrix factorization" in said
    assert "NDCG@10" in said
    assert "candidates are all items but those that the user rated for training" in said
    assert "After round 4 a rating is at" in said
    page = page_of(folder)
    assert page.name == "recommender"
    assert isinstance(page, RunPage)
    of = page.read(folder)
    chart = spec_of(page.main_chart(of)[0])
    (data,) = chart["datasets"].values()
    lines = {row["line"] for row in data}
    assert {"this run", "isolated nodes", "each user's own mean"} <= lines
    assert {view["words"] for view in chart["usermeta"]["views"]} >= {"round", "bytes sent"}
    (spreading,) = [one for one in page.sections(of) if one.title == "How ratings spread"]
    assert len(spreading.charts) == 2
    for drawn in spreading.charts:
        drawn.to_dict()  # its form is checked


def test_ratings_spread_from_their_owners_on(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    rows = spread(folder)
    assert rows["round"].to_list() == [1, 2, 3, 4]
    holders = rows["holders"].to_list()
    assert holders == sorted(holders)
    assert 1 < holders[0] <= 6
    assert rows["share"].to_list() == pytest.approx([h / 6 for h in holders])
    assert all(0 <= share < 1 for share in rows["repeated"].to_list())
    assert folder.summary is not None
    assert folder.summary["holders_mean"] == holders[-1]


def test_who_is_predicted_as_anybody_is_said(tmp_path: Path) -> None:
    data = {**SMALL["data"], "split": "global_time"}
    folder = folder_of(tmp_path, data=data, nodes=3, baselines=["user_mean", "bias"])
    (text,) = fallbacks(folder)
    assert "predicted as anybody's by each user's own mean, biases" in text
    cells = groups_table(folder).rows
    assert {row[0] for row in cells} >= {"cold users"}
    assert "cold users" in words(folder)


def test_where_models_are_sent_nothing_spreads(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, algorithm="dpsgd", baselines=["user_mean"])
    assert not len(spread(folder))
    assert "How ratings spread" not in words(folder)
