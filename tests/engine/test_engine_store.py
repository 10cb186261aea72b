"""A node's own examples: what is taken in, what a full store drops, and training on what grows."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from hansa.base.errors import CheckpointError, RunError, WireError
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.data.dataset import Dataset, Split
from hansa.engine import Job
from hansa.engine.node_view import node_view
from hansa.engine.own_examples import Store
from hansa.experiment import RunFile, prepare, resume, run
from hansa.report import RunFolder

from .conftest import children

PLUGIN = Path(__file__).with_name("passing_on.py")
PAIRS = DataSpec("pairs", (2,), 1, "regression", (4, 4))
Example = tuple[int, int, float]


def ratings(pairs: list[Example]) -> Split:
    """Users, items and stars as a data set stores them."""
    ids = np.array([p[:2] for p in pairs], dtype=np.int64).reshape(len(pairs), 2)
    stars = np.array([p[2] for p in pairs], dtype=np.float32)
    return Split(torch.from_numpy(ids), torch.from_numpy(stars))


def data(pairs: list[Example]) -> Dataset:
    whole = ratings(pairs)
    return Dataset("ratings", PAIRS, whole, None, whole)


def columns(pairs: list[Example]) -> dict[str, np.ndarray]:
    split = ratings(pairs)
    return {"inputs": split.inputs.numpy(), "targets": split.targets.numpy()}


def content(store: Store, node: int) -> list[Example]:
    held = store.table(node)
    pairs = zip(held["inputs"].tolist(), held["targets"].tolist(), strict=True)
    return [(user, item, stars) for (user, item), stars in pairs]


class Plain:
    """One node's gathered examples in a list."""

    def __init__(self, dealt: list[Example], streams: Streams, node: int, **rules: Any) -> None:
        self.dealt, self.streams, self.node = dealt, streams, node
        self.unique, self.capacity = rules["unique"], rules["capacity"]
        self.when_full = rules["when_full"]
        self.gathered: list[Example] = []
        self.came = 0

    def key(self, example: Example) -> Any:
        if self.unique is None:
            return object()
        return tuple(example[c] for c in ((0, 1) if self.unique is True else self.unique))

    def add(self, pairs: list[Example]) -> None:
        known = {self.key(e) for e in self.dealt + self.gathered}
        new = []
        for example in pairs:
            key = self.key(example)
            if key not in known:
                known.add(key)
                new.append(example)
        full = 1 << 30 if self.capacity is None else self.capacity
        begin = max(0, full - len(self.gathered))
        lots = []
        if self.when_full == "random" and len(new) > begin:
            random = self.streams.numpy("store", self.node, self.came)
            lots = random.integers(0, self.came + 1 + np.arange(begin, len(new))).tolist()
        for j, example in enumerate(new):
            if len(self.gathered) < full:
                self.gathered.append(example)
            elif self.when_full == "oldest" and full:
                self.gathered = [*self.gathered[1:], example]
            elif self.when_full == "random" and lots[j - begin] < full:
                self.gathered[lots[j - begin]] = example
        self.came += len(new)


EXAMPLES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.5, 4.0])), max_size=9
)


@settings(max_examples=120, deadline=None)
@given(
    st.tuples(EXAMPLES, EXAMPLES),
    st.lists(st.tuples(st.integers(0, 1), EXAMPLES), max_size=6),
    st.sampled_from([None, True, (1,)]),
    st.sampled_from([None, 0, 1, 3, 5]),
    st.sampled_from(["refuse", "oldest", "random"]),
    st.integers(0, 5),
)
def test_a_store_is_a_plain_list(
    dealt: tuple[list[Example], list[Example]],
    adds: list[tuple[int, list[Example]]],
    unique: Any,
    capacity: int | None,
    when_full: Any,
    cut: int,
) -> None:
    """Also where it is filed after some adds and taken up by two that are apart."""
    streams = Streams(7)
    rules = {"unique": unique, "capacity": capacity, "when_full": when_full}
    plain = {node: Plain(dealt[k], streams, node, **rules) for k, node in enumerate((2, 5))}

    def opened(ids: list[int], whole: list[Example], parts: list[np.ndarray]) -> Store:
        return Store(np.array(ids), parts, data(whole), streams, **rules)

    every = [np.arange(len(dealt[0])), len(dealt[0]) + np.arange(len(dealt[1]))]
    together = opened([2, 5], [*dealt[0], *dealt[1]], every)
    apart: dict[int, Store] = {}
    for step, (k, pairs) in enumerate([*adds, (0, [])]):
        if step == min(cut, len(adds)):
            for j, node in enumerate((2, 5)):
                apart[node] = opened([node], dealt[j], [np.arange(len(dealt[j]))])
                apart[node].restore(np.array([2, 5]), together.filed())
        node = (2, 5)[k]
        plain[node].add(pairs)
        for store in (together, *([apart[node]] if apart else [])):
            store.add(node, columns(pairs))
    for j, node in enumerate((2, 5)):
        for store in (together, apart[node]):
            assert content(store, node) == dealt[j] + plain[node].gathered
            assert store.came[list(store._ids).index(node)] == plain[node].came
    assert together.sizes.tolist() == [len(content(together, 2)), len(content(together, 5))]
    assert together.gathered.tolist() == [len(p.gathered) for p in plain.values()]
    # What a trainer draws from is the same.
    x, y = together.dataset.gather(together.dataset.train, torch.from_numpy(every[1]))
    whole = dealt[1] + plain[5].gathered
    assert x.tolist() == [list(e[:2]) for e in whole]
    assert y.tolist() == [e[2] for e in whole]


def test_room_doubles_and_is_used_again() -> None:
    store = Store(np.array([0]), [np.zeros(0, np.int64)], data([]), Streams(1), None, 4, "oldest")
    for k in range(200):
        store.add(0, columns([(0, 0, float(k)), (1, 1, float(k))]))
    assert [e[2] for e in content(store, 0)] == [198.0, 198.0, 199.0, 199.0]
    assert len(store._split.pool) == 4
    assert len(store._split.pool.targets) <= 8
    grows = Store(np.array([0]), [np.zeros(0, np.int64)], data([]), Streams(1))
    rooms = set()
    for k in range(1000):
        grows.add(0, columns([(0, 0, float(k))]))
        rooms.add(len(grows._split.pool.targets))
    assert len(rooms) < 12


def test_long_keys_are_told_apart() -> None:
    """Images: the key of an example is a digest of all its numbers."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (50, 6, 6, 1)).astype(np.uint8)
    split = Split(torch.from_numpy(images), torch.zeros(50, dtype=torch.int64))
    whole = Dataset("images", DataSpec("image", (1, 6, 6), 10), split, None, split)
    store = Store(np.array([0]), [np.arange(10)], whole, Streams(1), unique=True)
    table = {"inputs": images.reshape(50, 36), "targets": np.zeros(50, np.int64)}
    assert store.add(0, table) == 40
    assert store.add(0, table) == 0
    assert np.array_equal(store.table(0)["inputs"], images.reshape(50, 36))


@given(
    lots=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.just(1.0))), st.data()
        ),
        max_size=4,
    ),
    when_full=st.sampled_from(["refuse", "oldest", "random"]),
)
@settings(max_examples=25)
def test_notes_stay_with_their_examples_whatever_comes_goes_or_is_restored(
    lots: list[Any], when_full: Any
) -> None:
    """A note that tells its example, but of those that were dealt, of which nobody said."""
    dealt = [(0, 0, 1.0), (1, 2, 1.0), (3, 3, 1.0)]

    def opened() -> Store:
        part, mark = [np.arange(2), np.array([2])], {"mark": np.int32(-1)}
        return Store(np.array([4, 7]), part, data(dealt), Streams(1), True, 5, when_full, mark)

    store = opened()
    for pairs, drawn in lots:
        came = columns(pairs)
        store.add(4, {**came, "mark": (came["inputs"] @ [4, 1]).astype(np.int32)})
        m = len(content(store, 4))
        some = drawn.draw(st.lists(st.booleans(), min_size=m, max_size=m))
        store.drop(4, np.array(some, dtype=bool))
        after = opened()
        after.add(4, columns([(2, 2, 1.0)]))  # is gone once it is restored
        after.restore(np.array([4, 7]), store.filed())
        for each in (store, after):
            held, mark = each.table(4)["inputs"], each.noted(4, "mark")
            assert np.array_equal(mark[mark >= 0], held[mark >= 0] @ [4, 1])
            assert {*map(tuple, held[mark < 0].tolist())} <= {(0, 0), (1, 2)}
            assert each.find(4, held).tolist() == [*range(len(held))]
            assert (each.find(4, np.array([[2, 3]])) >= 0).all() == ([2, 3] in held.tolist())
        assert content(after, 4) == content(store, 4)
        assert content(after, 7) == [(3, 3, 1.0)]


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": np.array([[0, 4]])},
        {"inputs": np.array([[-1, 0]])},
        {"inputs": np.array([[0, 0]], np.int32)},
        {"inputs": np.array([[0, 0, 0]])},
        {"inputs": np.array([[0, 0], [1, 1]])},
        {"targets": np.array([np.nan], np.float32)},
        {"targets": np.array([1.0])},
        {"targets": np.array([[1.0]], np.float32)},
    ],
    ids=str,
)
def test_what_no_example_of_the_data_can_be_is_refused(change: dict[str, np.ndarray]) -> None:
    store = Store(np.array([3]), [np.arange(2)], data([(0, 0, 1.0), (0, 1, 1.0)]), Streams(1))
    with pytest.raises(WireError, match="node 3 got"):
        store.add(3, columns([(1, 1, 2.0)]) | change)
    assert store.gathered.tolist() == [0]


@pytest.mark.parametrize("lacking", ["inputs", "targets"])
def test_a_table_without_a_column_is_refused(lacking: str) -> None:
    """As when a peer sends another table: it is no fault of the algorithm that takes it."""
    store = Store(np.array([3]), [np.arange(2)], data([(0, 0, 1.0), (0, 1, 1.0)]), Streams(1))
    table = {name: value for name, value in columns([(1, 1, 2.0)]).items() if name != lacking}
    with pytest.raises(WireError, match=f"node 3 got examples without a column '{lacking}'"):
        store.add(3, table)


def test_settings_that_mean_nothing_are_refused() -> None:
    parts = [np.arange(1)]
    for rules in ({"unique": (2,)}, {"capacity": -1}):
        with pytest.raises(ValueError, match=r"unique|capacity"):
            Store(np.array([0]), parts, data([(0, 0, 1.0)]), Streams(1), **rules)  # type: ignore[arg-type]


# -- an algorithm that passes examples on ---------------------------------------------------------


@pytest.fixture(scope="module")
def passing(small: Callable[..., Any]) -> Callable[..., Any]:
    def make(changes: dict[str, Any] | None = None, **algorithm: Any) -> Any:
        chosen = small({"rounds": 6, "evaluate.every": 1, **(changes or {})})
        chosen["data"] = {"name": "digits", "partition": {"name": "shards", "shards_per_node": 2}}
        return chosen | {
            "plugins": [str(PLUGIN)],
            "algorithm": {"name": "passing_on", **algorithm},
        }

    return make


def measured(folder: RunFolder, name: str) -> dict[tuple[int, int], float]:
    rows = folder.metrics().filter((polars.col("name") == name) & polars.col("node").is_not_null())
    return {(r, n): v for r, n, v in rows.select("round", "node", "value").iter_rows()}


def stored(run_folder: Path, done: int) -> dict[str, torch.Tensor]:
    """What a checkpoint holds, by node."""
    nodes: dict[str, torch.Tensor] = {}
    for path in (run_folder / f"checkpoints/round-{done:06d}").glob("*.safetensors"):
        file = load_file(path)
        ends = file["store.counts"].cumsum(0).tolist()
        for i, end, count in zip(
            file["ids"].tolist(), ends, file["store.counts"].tolist(), strict=True
        ):
            nodes[f"{i}.inputs"] = file["store.inputs"][end - count : end]
            nodes[f"{i}.targets"] = file["store.targets"][end - count : end]
        for i, row in zip(file["ids"].tolist(), file["rows"], strict=True):
            nodes[f"{i}.model"] = row
    return nodes


def assert_same(one: Path, other: Path, done: int) -> None:
    a, b = stored(one, done), stored(other, done)
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def test_processes_gather_and_train_as_the_simulation_does(
    passing: Callable[..., Any], tmp_path: Path
) -> None:
    """Also after a resume in the middle, on other numbers of workers."""
    rules: dict[str, Any] = {"capacity": 12, "when_full": "random"}
    every = {"checkpoint.every": 1, "checkpoint.keep": 9}
    whole = run(passing(every, **rules), tmp_path / "whole", report=False)
    apart = passing({**every, "rounds": 3}, **rules) | {
        "runtime": {"name": "processes", "workers": 3}
    }
    run(apart, tmp_path / "apart", report=False)
    assert_same(tmp_path / "whole", tmp_path / "apart", 3)
    two = {"name": "processes", "workers": 2}
    again = resume(tmp_path / "apart", {"rounds": 6, "runtime": two}, report=False)
    assert_same(tmp_path / "whole", tmp_path / "apart", 6)
    for name in ("examples", "taken", "accuracy", "train_loss", "bytes_sent", "message_bytes"):
        assert measured(whole, name) == measured(again, name), name
    assert measured(whole, "taken")[1, 0] > 0


@pytest.mark.parametrize("loss", [0.0, 0.3])
@pytest.mark.parametrize("rules", [{}, {"capacity": 7, "when_full": "oldest"}], ids=str)
def test_blocks_apart_gather_and_train_as_one_does(
    passing: Callable[..., Any],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    rules: dict[str, Any],
    loss: float,
) -> None:
    """What is lost on its way is not taken in, in no runtime."""

    def job() -> Job:
        return prepare(RunFile.parse(passing({"faults": {"loss": loss}}, **rules)))

    block, _ = host(job())
    assert (int(block.state["messages_received"].sum()) < 6 * 8 * 3) == (loss > 0)
    for workers in (2, 8):
        rows, state, _ = host_apart(job, workers)
        assert torch.equal(rows, block.rows)
        assert torch.equal(state["bytes_sent"], block.state["bytes_sent"])


def test_parties_have_of_each_other_what_was_sent(
    passing: Callable[..., Any], host: Callable[..., Any], poisoned: Callable[..., Any]
) -> None:
    """A party a node; all but its own examples is spoiled."""
    chosen = RunFile.parse(passing())
    block, _ = host(prepare(chosen))
    assert torch.equal(poisoned(prepare(chosen)).rows, block.rows)


def test_a_block_of_some_nodes_grows_with_the_block(
    passing: Callable[..., Any],
) -> None:
    """A crew that visits, and the view of one node."""
    block = prepare(RunFile.parse(passing())).block(np.arange(8))
    assert block.store is not None
    crew = block.visit(np.array([2, 5]), block.rows[:2].clone())
    view = node_view(block, 5)
    before = block.own_sizes
    block.store.add(5, block.store.table(1, np.arange(3)))
    assert (block.own_sizes - before).tolist() == [0, 0, 0, 0, 0, 3, 0, 0]
    assert crew.own_sizes.tolist() == block.own_sizes[[2, 5]].tolist()
    assert view.own_sizes.tolist() == block.own_sizes[[5]].tolist()
    assert [*crew.parts[:]][1] is block.parts[5]
    crew.train(0)


def test_who_never_grows_trains_as_ever(passing: Callable[..., Any], tmp_path: Path) -> None:
    """To the bit: an open store alone changes nothing."""
    still = run(passing(count=0), tmp_path / "still", report=False)
    plain = passing() | {"algorithm": "isolated"}
    other = run(plain, tmp_path / "plain", report=False)
    for name in ("accuracy", "train_loss"):
        assert measured(still, name) == measured(other, name)


def test_gathered_examples_are_learned_from(passing: Callable[..., Any], tmp_path: Path) -> None:
    """With two classes a node at first, the test accuracy shows it."""
    chosen = passing({"rounds": 15, "train.local_steps": 20, "evaluate.every": 15}, count=20)
    gossip = run(chosen, tmp_path / "gossip", report=False)
    alone = run(chosen | {"algorithm": "isolated"}, tmp_path / "alone", report=False)
    gain = [
        measured(gossip, "accuracy")[15, n] - measured(alone, "accuracy")[15, n] for n in range(8)
    ]
    assert min(gain) > 0.15


@pytest.mark.slow
def test_a_killed_worker_goes_on_with_what_it_had_gathered(
    passing: Callable[..., Any], tmp_path: Path
) -> None:
    chosen = passing({"rounds": 80, "checkpoint.every": 5}, count=1, capacity=40)
    run(chosen, tmp_path / "whole", report=False)

    def progress(done: int, figures: dict[str, float]) -> None:
        if done == 7:
            (second,) = [p for p in children() if p.name() == "worker-1"]
            os.kill(second.pid, signal.SIGKILL)

    processes = {"name": "processes", "workers": 2, "deadline": 300.0}
    with pytest.raises(RunError, match="was killed"):
        run(chosen | {"runtime": processes}, tmp_path / "run", progress=progress, report=False)
    resume(tmp_path / "run", report=False)
    assert_same(tmp_path / "whole", tmp_path / "run", 80)


def test_nobody_has_more_of_others_than_was_sent_to_it(
    passing: Callable[..., Any], tmp_path: Path
) -> None:
    """After a round, what a node gathered is of its neighbours' own parts."""
    chosen = passing({"rounds": 1, "checkpoint.every": 1}) | {
        "runtime": {"name": "processes", "workers": 2}
    }
    run(chosen, tmp_path / "run", report=False)
    job = prepare(RunFile.parse(chosen))
    graph, nodes = job.network.graph(0), stored(tmp_path / "run", 1)
    parts = [
        {row.tobytes() for row in job.dataset.train.take(part).inputs.numpy()} for part in job.parts
    ]
    for i in range(8):
        mine = [row.tobytes() for row in nodes[f"{i}.inputs"].numpy()]
        near = set().union(*(parts[j] for j in graph.row(i).tolist()))
        assert 0 < len(mine) <= 5 * len(graph.row(i))
        assert set(mine) <= near - parts[i]


def test_a_checkpoint_of_nodes_that_gather_nothing_is_refused(
    passing: Callable[..., Any], make_job: Callable[..., Job], tmp_path: Path
) -> None:
    from hansa.engine.runtimes.checkpoint import load_block, read_manifest

    run(passing({"rounds": 1, "checkpoint.every": 1}), tmp_path / "run", report=False)
    folder = tmp_path / "run/checkpoints/round-000001"
    block = make_job().block(np.arange(8))
    load_block(block, folder, read_manifest(folder))  # who gathers nothing need not look
    run(
        passing({"rounds": 1, "checkpoint.every": 1}) | {"algorithm": "isolated"},
        tmp_path / "other",
        report=False,
    )
    folder = tmp_path / "other/checkpoints/round-000001"
    block.open_store()
    with pytest.raises(CheckpointError, match="gathered"):
        load_block(block, folder, read_manifest(folder))
