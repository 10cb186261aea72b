"""REX as a whole: the same however nodes are split, and better than who is alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hansa.base.errors import ConfigError, Diverged
from hansa.recommend.row_merging import HELD

from .rated import ITEMS, USERS, rated_job

NEURAL = {"name": "neural_recommender", "embedding": 4, "hidden": [6], "start": 3.0}
WAYS = [
    {"share": "data"},
    {"share": "model"},
    {"share": "both", "passes": 2, "rating_codec": "pair_gaps"},
    {"share": "data", "dissemination": "dpsgd"},
    {"share": "both", "dissemination": "dpsgd"},
    {"withdraw": [{"user": 3, "at": 1}], "exposure": {"expiry": 4}},
    {"reconcile": "remembered", "exposure": {"hops": 2, "budget": 9, "capacity": 40}},
    {
        "reconcile": "digest",
        "dissemination": "dpsgd",
        "exposure": {"expiry": 3},
        "guard": {"per_user": 3, "conflicts": True},
    },
    {"share": "both", "model": NEURAL, "train": {"batch_size": 5, "drop_last": False}},
    {"share": "auto", "dissemination": "dpsgd", "weighing": {"every": 2}, "steps": 9},
    {"share": "auto", "model": NEURAL, "weighing": {"every": 2}, "train": {"drop_last": False}},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_blocks_apart_come_to_what_one_does(
    way: dict[str, Any], loss: float, host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    """To the bit, what is lost on its way too: nobody waits for it."""

    def job() -> Any:
        return rated_job(faults={"loss": loss} if loss else None, **way)

    block, _ = host(job())
    for workers in (2, 6):
        rows, state, _ = host_apart(job, workers)
        assert torch.equal(rows, block.rows)
        for name in (HELD, "bytes_sent", "steps", "samples", "messages_received"):
            assert torch.equal(state[name], block.state[name]), name
    if way.get("share") != "model":
        assert (block.store.gathered > 0).all()


def test_parties_have_of_each_other_what_was_sent(
    host: Callable[..., Any], poisoned: Callable[..., Any]
) -> None:
    block, _ = host(rated_job(share="both"))
    assert torch.equal(poisoned(rated_job(share="both")).rows, block.rows)


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"model": {"name": "mlp"}}, "model", "pairs"),
        ({"train": {"optimizer": {"name": "adam"}}}, "train.optimizer", "plain steps"),
        ({"train": {"optimizer": {"momentum": 0.5}}}, "train.optimizer", "plain steps"),
        ({"train": {"clip_norm": 1.0}}, "train.clip_norm", "plain steps"),
        ({"train": {"local_epochs": 1}, "share": "model"}, "train.optimizer", "diverges where"),
        ({"rating_codec": "sparse"}, "algorithm.rating_codec", "cannot carry"),
        ({"row_codec": "table"}, "algorithm.row_codec", "cannot carry"),
        (
            {"dissemination": "dpsgd", "topology": {"name": "exponential"}},
            "algorithm.dissemination",
            "heard by those",
        ),
    ],
    ids=str,
)
def test_what_it_cannot_do_is_refused(change: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        rated_job(**change).block(torch.arange(6).numpy())
    assert caught.value.field == field


def test_groups_that_nobody_rated_stay_as_they_were(host: Callable[..., Any]) -> None:
    job = rated_job(share="model", rounds=3)
    block, _ = host(job)
    start = job.trainer().layout.flatten(job.module)
    groups = block.rows.view(6, USERS + ITEMS + 1, -1)
    held = block.state[HELD]
    first = start.view(USERS + ITEMS + 1, -1)
    assert not held.all()
    assert (groups == first).all(-1)[~held].all()
    assert held[:, -1].all()


def test_a_node_that_diverged_is_named(host: Callable[..., Any]) -> None:
    fast = {"optimizer": {"lr": 5.0}, "on_divergence": "stop"}
    with pytest.raises(Diverged, match=r"lower train.optimizer.lr"):
        host(rated_job(train=fast))


def test_a_graph_in_pieces_is_refused(tmp_path: Path) -> None:
    graph = tmp_path / "pieces.txt"
    graph.write_text("0 1\n1 2\n3 4\n4 5\n")
    with pytest.raises(ConfigError, match="2 pieces"):
        rated_job(topology={"name": "file", "path": str(graph)})
