"""Rows that only some nodes have: like a dictionary, copied both ways, and saved."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.engine import Block, Job, read_manifest
from hansa.engine.runtimes.checkpoint import load_block, save_block, seal
from hansa.engine.shelf import Shelf

WIDTH = 3
ids = (
    st.lists(st.integers(0, 6), unique=True, max_size=5).map(np.array).map(lambda a: a.astype(int))
)
actions = st.lists(st.tuples(st.sampled_from(["put", "drop"]), ids, st.floats(-9, 9, width=32)))


@given(actions=actions, asked=ids)
def test_a_shelf_is_a_dictionary(
    actions: list[tuple[str, np.ndarray, float]], asked: np.ndarray
) -> None:
    shelf, plain = Shelf(), {}
    for action, nodes, value in actions:
        if action == "put":
            rows = torch.arange(len(nodes)).unsqueeze(1) + torch.full((len(nodes), WIDTH), value)
            shelf.put(nodes, rows)
            plain |= {n: row.clone() for n, row in zip(nodes.tolist(), rows, strict=True)}
            rows.zero_()  # what was filed is a copy
        else:
            shelf.drop(nodes)
            for n in nodes.tolist():
                plain.pop(n, None)
    assert len(shelf) == len(plain)
    taken = shelf.take(asked, WIDTH)
    for n, row in zip(asked.tolist(), taken, strict=True):
        assert torch.equal(row, plain.get(n, torch.zeros(WIDTH)))
        assert (n in shelf) == (n in plain)
    taken.fill_(99)  # what was taken is a copy too
    owners, rows = shelf.all()
    assert owners.tolist() == sorted(plain)
    for n, row in zip(owners.tolist(), rows, strict=True):
        assert torch.equal(row, plain[n])


@pytest.mark.parametrize("saved", [1, 2, 3])
@pytest.mark.parametrize("loaded", [1, 2, 4])
def test_shelves_are_read_by_any_split(
    make_job: Callable[..., Job], tmp_path: Path, saved: int, loaded: int
) -> None:
    """Nodes without a row stay without one; empty shelves stay empty."""
    job = make_job({"algorithm": "fedavg"})
    rows = torch.randn(9, 5)
    owners = np.array([0, 2, 3, 7])

    def blocks(count: int) -> list[Block]:
        return [job.block(part) for part in np.array_split(np.arange(9), count)]

    before = blocks(saved)
    for block in before:
        mine = block.ids[np.isin(block.ids, owners)]
        block.shelves["client.own"] = Shelf()
        block.shelves["client.own"].put(mine, rows[torch.from_numpy(mine)])
        block.shelves["client.none"] = Shelf()
    seal(tmp_path, 1, [save_block(block, tmp_path, 1) for block in before], 1)
    folder = tmp_path / "round-000001"
    manifest = read_manifest(folder)
    for block in blocks(loaded):
        load_block(block, folder, manifest)
        mine = block.ids[np.isin(block.ids, owners)]
        found, filed = block.shelves["client.own"].all()
        assert found.tolist() == mine.tolist()
        if len(mine):
            assert torch.equal(filed, rows[torch.from_numpy(mine)])
        assert len(block.shelves["client.none"]) == 0
