"""Checkpoints: whole or refused, and found by node."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.errors import CheckpointError
from hansa.engine import Block, Job, latest, read_manifest
from hansa.engine.runtimes.checkpoint import load_block, save_block, seal

N = 8


@pytest.fixture
def trained(make_job: Callable[..., Job]) -> Callable[..., list[Block]]:
    """Blocks of a split of the nodes, each after a round of work."""

    def make(parts: int, train: bool = True, **changes: Any) -> list[Block]:
        job = make_job({"train.optimizer": {"name": "adam", "lr": 0.01}, **changes})
        blocks = [job.block(ids) for ids in np.array_split(np.arange(N), parts)]
        for block in blocks:
            if train:
                block.train(0)
            block.trainer.close()
        return blocks

    return make


def write(root: Path, done: int, blocks: list[Block], keep: int = 2) -> Path:
    seal(root, done, [save_block(block, root, done) for block in blocks], keep, seconds=1.5)
    return root / f"round-{done:06d}"


@pytest.mark.parametrize("saved", [1, 2])
@pytest.mark.parametrize("loaded", [1, 2, 3])
def test_any_split_reads_what_any_other_wrote(
    trained: Callable[..., list[Block]], tmp_path: Path, saved: int, loaded: int
) -> None:
    before = trained(saved)
    folder = write(tmp_path, 4, before)
    assert latest(tmp_path) == folder
    manifest = read_manifest(folder)
    assert manifest["round"] == 4
    assert manifest["seconds"] == 1.5
    rows = torch.cat([block.rows for block in before])
    for block in trained(loaded, train=False):
        assert not torch.equal(block.rows, rows[block.ids])
        load_block(block, folder, manifest)
        assert torch.equal(block.rows, rows[block.ids])
        assert set(block.state) == set(before[0].state)
        for name, value in block.state.items():
            expected = torch.cat([other.state[name] for other in before])[block.ids]
            assert value.dtype == expected.dtype
            assert torch.equal(value, expected)
        assert block.state["optimizer.mean"].abs().sum() > 0


def test_what_was_never_sealed_is_no_checkpoint(
    trained: Callable[..., list[Block]], tmp_path: Path
) -> None:
    assert latest(tmp_path) is None
    blocks = trained(2)
    save_block(blocks[0], tmp_path, 2)
    assert latest(tmp_path) is None
    write(tmp_path, 4, blocks)
    save_block(blocks[0], tmp_path, 6)
    (tmp_path / "round-000008").mkdir()
    assert latest(tmp_path) == tmp_path / "round-000004"


def test_the_latest_few_are_kept(trained: Callable[..., list[Block]], tmp_path: Path) -> None:
    blocks = trained(1)
    for done in (2, 4, 6):
        write(tmp_path, done, blocks, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["round-000004", "round-000006"]
    write(tmp_path, 8, blocks, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["round-000008"]


def test_unfinished_later_ones_do_not_push_out_good_ones(
    trained: Callable[..., list[Block]], tmp_path: Path
) -> None:
    """A worker may be rounds ahead of the one whose part seals a checkpoint."""
    blocks = trained(2)
    write(tmp_path, 1, blocks, keep=1)
    for ahead in (3, 4):
        save_block(blocks[0], tmp_path, ahead)
    folder = write(tmp_path, 2, blocks, keep=1)
    assert latest(tmp_path) == folder
    read_manifest(folder)
    # What was begun and never finished goes when a later one is whole.
    write(tmp_path, 9, blocks, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["round-000009"]


def test_a_flipped_byte_is_named(trained: Callable[..., list[Block]], tmp_path: Path) -> None:
    folder = write(tmp_path, 2, trained(2))
    for path in sorted(folder.glob("*.safetensors")):
        whole = path.read_bytes()
        for at in (0, 30, len(whole) // 2, len(whole) - 1):
            damaged = bytearray(whole)
            damaged[at] ^= 1
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=path.name) as caught:
                read_manifest(folder)
            assert "delete" in str(caught.value)
        path.write_bytes(whole[:-1])
        with pytest.raises(CheckpointError, match=path.name):
            read_manifest(folder)
        path.write_bytes(whole)
    read_manifest(folder)


def test_a_missing_file_is_named(trained: Callable[..., list[Block]], tmp_path: Path) -> None:
    folder = write(tmp_path, 2, trained(2))
    gone = sorted(folder.glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(CheckpointError, match=f"{gone.name}: is missing"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '"x"',
        "{}",
        '{"round": 2}',
        '{"round": "x", "files": []}',
        '{"round": null, "files": []}',
        '{"round": 2, "files": 3}',
        '{"round": 2, "files": "abc"}',
        '{"round": 2, "files": [1]}',
        '{"round": 2, "files": [{}]}',
        '{"round": 2, "files": [{"file": "a", "sha256": "b"}]}',
        '{"round": 2, "files": [{"file": "a", "sha256": "b", "nodes": [0]}]}',
        '{"round": 2, "files": [{"file": "a", "sha256": "b", "nodes": ["x", "y"]}]}',
        "\udcff",
    ],
)
def test_a_manifest_of_garbage_is_named(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "round-000002"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        CheckpointError,
        match=r"manifest\.json: (is missing or not whole|does not hold|is no manifest)",
    ):
        read_manifest(folder)


def test_another_model_is_refused(
    trained: Callable[..., list[Block]], tmp_path: Path, make_job: Callable[..., Job]
) -> None:
    folder = write(tmp_path, 2, trained(1))
    other = make_job({"model": {"name": "mlp", "hidden": [5]}}).block(np.arange(N))
    before = other.rows.clone()
    with pytest.raises(CheckpointError, match="models of 910 numbers, this run's have 385"):
        load_block(other, folder, read_manifest(folder))
    assert torch.equal(other.rows, before)


def test_missing_nodes_are_named(
    trained: Callable[..., list[Block]], tmp_path: Path, make_job: Callable[..., Job]
) -> None:
    first, _ = trained(2)
    folder = write(tmp_path, 2, [first])
    block = make_job().block(np.arange(N))
    with pytest.raises(CheckpointError, match=r"holds no state of nodes \[4, 5, 6, 7\]"):
        load_block(block, folder, read_manifest(folder))


def test_a_file_of_another_kind_is_named(tmp_path: Path, make_job: Callable[..., Job]) -> None:
    """Even where its hash is the manifest's."""
    from hansa.base.files import sha256

    folder = tmp_path / "round-000002"
    folder.mkdir()
    part = folder / "nodes.safetensors"
    part.write_bytes(b"no tensors")
    entry = {"file": part.name, "nodes": [0, N - 1], "sha256": sha256(part)}
    (folder / "manifest.json").write_text(json.dumps({"round": 2, "files": [entry]}))
    block = make_job().block(np.arange(N))
    with pytest.raises(CheckpointError, match=r"nodes\.safetensors cannot be read"):
        load_block(block, folder, read_manifest(folder))


def test_saving_again_replaces(trained: Callable[..., list[Block]], tmp_path: Path) -> None:
    """A resumed run writes the round anew that a crash left half done, perhaps in other parts."""
    save_block(trained(2)[0], tmp_path, 2)
    whole = trained(1)
    folder = write(tmp_path, 2, whole)
    block = trained(1, train=False)[0]
    load_block(block, folder, read_manifest(folder))
    assert torch.equal(block.rows, whole[0].rows)
