"""Checkpoints: the state of all nodes, whole or absent.

Each block writes its own safetensors file; a manifest with their hashes, written last and
atomically, makes the checkpoint valid. Files are found by node, so a run may go on with another
number of workers.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hansa.base import many
from hansa.base.bundle import check_file, packed, read_facts, write_tensors
from hansa.base.errors import CheckpointError
from hansa.base.files import atomic_write, sha256, write_json, writing
from hansa.base.lazy import safetensors, torch
from hansa.engine.block import Block
from hansa.engine.exchange.letter import as_tensors, from_tensors
from hansa.engine.outcome import Outcome, Which
from hansa.engine.past import filed_links, read_links
from hansa.engine.runtimes.sealer import Sealer, opened
from hansa.engine.shelf import Shelf

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"
FEW = "few."
"""How the names begin of state that is filed of a few nodes: ``.at`` whom, and ``.of`` what."""


def part_name(ids: np.ndarray) -> str:
    """The file of a block with these nodes."""
    return f"nodes-{ids[0]:06d}-{ids[-1]:06d}.safetensors"


def round_folder(root: Path, done: int) -> Path:
    """Where among checkpoints that after ``done`` rounds lies."""
    return root / f"round-{done:06d}"


def save_block(block: Block, root: Path, done: int, sealer: Sealer | None = None) -> dict[str, Any]:
    """Write a block's file; returns its entry for the manifest."""
    folder = round_folder(root, done)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / part_name(block.ids)
    tensors = {"ids": torch.from_numpy(block.ids), "rows": block.rows}
    tensors["residents"] = torch.from_numpy(block.ids[block.residents])
    for name, value in block.state.items():
        tensors |= filed_state(name, value)
    tensors |= {f"kept.{name}": value for name, value in block.kept.items()}
    for name, shelf in block.shelves.items():
        owners, filed = shelf.all()
        tensors |= {f"shelf.{name}.ids": torch.from_numpy(owners), f"shelf.{name}.rows": filed}
    tensors |= {f"mail.{name}": value for name, value in as_tensors(block.mail).items()}
    if block.store is not None:
        tensors |= {f"store.{name}": value for name, value in block.store.filed().items()}
    tensors |= {f"links.{name}": value for name, value in filed_links(block.links).items()}
    for (after, node), was in block.past.items():
        tensors |= {f"past.{after}.{node}.{name}": value for name, value in was.items()}
    end = block.outcome
    if end is not None and end.ids is not None and end.rows is not None:
        own = torch.tensor(end.ids), end.rows.clone()  # it may be of the block's own
        tensors |= {"outcome.ids": own[0], "outcome.rows": own[1]}
    ids = [int(block.ids[0]), int(block.ids[-1])]
    if sealer is None:
        digest = write_tensors(path, tensors)
    else:
        with atomic_write(path) as file:
            file.write(sealer.seal(packed(tensors), {"round": done, "nodes": ids}))
        digest = sha256(path)
    outcome = None if end is None else end.facts()
    entry = {"file": path.name, "nodes": ids, "sha256": digest, "outcome": outcome}
    if block.trainer.frozen:  # not in the rows, which mean nothing without them
        entry["frozen"] = block.trainer.frozen
    return entry if sealer is None else {**entry, "sealed": done}


def seal(
    root: Path,
    done: int,
    entries: list[dict[str, Any]],
    keep: int,
    spare: Collection[Path] = (),
    sealer: Sealer | None = None,
    **facts: Any,
) -> None:
    """Make a checkpoint valid by writing its manifest, and drop all but the ``keep`` latest.

    Args:
        spare: folders that are still read from, and stay too.
    """
    folder = round_folder(root, done)
    said = {"round": done, "files": entries, **facts}
    if sealer is not None:
        said["chain"] = sealer.link(root, said)
    write_json(folder / MANIFEST, said)
    if sealer is not None:
        sealer.linked(root, {**said["chain"], "round": done})
    # Later ones are let be: a worker that is ahead may be writing them.
    so_far = [other for other in sorted(root.glob("round-*")) if other.name <= folder.name]
    kept = [other for other in so_far if (other / MANIFEST).exists()][-keep:]
    for stale in so_far:
        if stale not in kept and stale not in spare:
            # The manifest goes first: a half-deleted checkpoint is not a valid one.
            (stale / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(stale)


def sealed(root: Path) -> list[Path]:
    """The checkpoints that were finished, oldest first."""
    return [folder for folder in sorted(root.glob("round-*")) if (folder / MANIFEST).exists()]


def discard_unfinished(root: Path) -> None:
    """Delete checkpoints that were begun and not finished: the room may be needed."""
    for folder in root.glob("round-*"):
        if not (folder / MANIFEST).exists():
            shutil.rmtree(folder, ignore_errors=True)


def latest(root: Path) -> Path | None:
    """The newest checkpoint that was finished, or None."""
    whole = sealed(root)
    return whole[-1] if whole else None


def peek(folder: Path) -> dict[str, Any]:
    """What a checkpoint's manifest says, unchecked; nothing if it cannot be read."""
    try:
        return read_facts(folder / MANIFEST)
    except CheckpointError:
        return {}


def read_manifest(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest, with every file's hash checked.

    Raises:
        CheckpointError: a file is missing or is not what was written.
    """
    path = folder / MANIFEST
    remedy = f"delete {folder} to resume from an earlier checkpoint"
    manifest = read_facts(path, remedy)
    try:
        entries = [(str(entry["file"]), str(entry["sha256"])) for entry in manifest["files"]]
        for entry in manifest["files"]:
            _first, _last = map(int, entry["nodes"])
        int(manifest["round"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is no manifest ({error!r}); {remedy}") from error
    for name, digest in entries:
        check_file(folder / name, digest, remedy)
    return manifest


def shelved(folder: Path, name: str) -> np.ndarray:
    """Ids of the nodes that have a row on a shelf of a checkpoint, int64, ascending."""
    ids = [np.zeros(0, dtype=np.int64)]
    for path in sorted(folder.glob("nodes-*.safetensors")):
        with opened(path, {}, None) as file:
            if f"shelf.{name}.ids" in file.keys():  # noqa: SIM118
                ids.append(file.get_tensor(f"shelf.{name}.ids").numpy())
    return np.sort(np.concatenate(ids))


def check_frozen(folder: Path, entry: dict[str, Any], digest: str) -> None:
    """Hold a file of a checkpoint, by its manifest's entry, to a model's frozen parameters.

    Args:
        digest: of :func:`hansa.models.layout.frozen_digest`.

    Raises:
        CheckpointError: it was trained around others.
    """
    if entry.get("frozen", "") != digest:
        problem = "was trained around other frozen numbers than this model has"
        fix = "put back the files that it was built from"
        raise CheckpointError(f"{folder / entry['file']} {problem}; {fix}")


def load_block(
    block: Block, folder: Path, manifest: dict[str, Any], sealer: Sealer | None = None
) -> None:
    """Fill a block, in place, with the saved state of its nodes, and with what they came to.

    Raises:
        CheckpointError: a node is missing, or the checkpoint is of another model.
    """
    missing = np.ones(len(block), dtype=bool)
    for entry in manifest["files"]:
        first, last = entry["nodes"]
        if last < block.ids[0] or first > block.ids[-1]:
            continue
        path = folder / entry["file"]
        check_frozen(folder, entry, block.trainer.frozen)
        try:
            about = {"round": entry.get("sealed"), "nodes": entry["nodes"]}
            with opened(path, about, sealer) as file:
                saved = file.get_tensor("ids").numpy()
                here, source = _common(block.ids, saved)
                if not len(here):
                    continue
                _take_rows(block, file, path)
                _fill(block.state, "state.", file, source, here, block)
                _fill_few(block.state, file, source, here, len(block))
                _take_shelves(block, file)
                _take_store(block, file, saved)
                _take_mail(block, file, path)
                _take_past(block, file)
                _take_outcome(block, file, entry.get("outcome"))
                missing[here] = False
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
    if missing.any():
        gone = block.ids[missing][:8].tolist()
        raise CheckpointError(f"{folder} holds no state of nodes {gone}")


def _take_rows(block: Block, file: Any, path: Path) -> None:
    """Fill the models, and the state kept with them, that a file has of the block's residents."""
    ours, saved = block.ids[block.residents], file.get_tensor("residents").numpy()
    here, source = _common(ours, saved)
    if not len(here):
        return
    rows = file.get_tensor("rows")[torch.from_numpy(source)]
    if rows.shape[1] != block.rows.shape[1]:
        raise CheckpointError(
            f"{path} holds models of {rows.shape[1]} numbers, this run's have {block.rows.shape[1]}"
        )
    block.rows[torch.from_numpy(here)] = rows.to(block.rows.device)
    _fill(block.kept, "kept.", file, source, here, block)


def _fill(
    target: dict[str, Tensor],
    prefix: str,
    file: Any,
    source: np.ndarray,
    here: np.ndarray,
    block: Block,
) -> None:
    """Put the rows ``source`` of every tensor of a file with this prefix at ``here``."""
    take, put = torch.from_numpy(source), torch.from_numpy(here)
    length = len(block) if prefix == "state." else len(block.residents)
    for name in (name for name in file.keys() if name.startswith(prefix)):  # noqa: SIM118
        value = file.get_tensor(name)[take]
        key = name.removeprefix(prefix)
        if key not in target:
            device = block.rows.device if key.startswith("optimizer.") else "cpu"
            target[key] = torch.zeros((length, *value.shape[1:]), dtype=value.dtype, device=device)
        target[key][put] = value.to(target[key].device)


def filed_state(name: str, value: Tensor) -> dict[str, Tensor]:
    """State of nodes [n, ...] as it is filed: where most of very many have 0, the others'."""
    if value.ndim == 1 and len(value) >= many.MANY:
        at = np.flatnonzero(value.cpu().numpy())
        if 4 * len(at) < len(value):
            places = torch.from_numpy(at)
            return {f"{FEW}{name}.at": places, f"{FEW}{name}.of": value.cpu()[places]}
    return {f"state.{name}": value}


def few_in(file: Any) -> Iterator[tuple[str, np.ndarray, Tensor]]:
    """State that a file has of those nodes alone who have another one than 0: (its name, int64 [k]
    their places among the file's nodes, theirs [k])."""
    for key in file.keys():  # noqa: SIM118
        if key.startswith(FEW) and key.endswith(".at"):
            name = key.removeprefix(FEW).removesuffix(".at")
            yield name, file.get_tensor(key).numpy(), file.get_tensor(f"{FEW}{name}.of")


def _common(ours: np.ndarray, saved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the ids that both have stand in either, int64 [k] each, by ascending id."""
    if np.array_equal(ours, saved):
        everywhere = np.arange(len(ours))
        return everywhere, everywhere
    here, source = np.intersect1d(ours, saved, return_indices=True)[1:]
    return here, source


def _fill_few(
    target: dict[str, Tensor], file: Any, source: np.ndarray, here: np.ndarray, nodes: int
) -> None:
    """As :func:`_fill`, for state that a file has of those alone who have another one than 0."""
    for name, at, filed in few_in(file):
        of = filed.numpy()
        if name not in target:
            target[name] = many.counter(nodes, of.dtype)
        values = target[name].numpy()
        values[here[values[here] != 0]] = 0
        place = np.searchsorted(source, at)
        ours = place < len(source)
        ours[ours] = source[place[ours]] == at[ours]
        values[here[place[ours]]] = of[ours]


def _take_shelves(block: Block, file: Any) -> None:
    """Put the rows of this block's nodes onto their shelves; those of others are not read."""
    for name in file.keys():  # noqa: SIM118
        if not (name.startswith("shelf.") and name.endswith(".ids")):
            continue
        key = name.removeprefix("shelf.").removesuffix(".ids")
        ids = file.get_tensor(name).numpy()
        ours = np.flatnonzero(np.isin(ids, block.ids))
        rows = file.get_slice(f"shelf.{key}.rows")
        shelf = block.shelves.setdefault(key, Shelf())
        for at in ours.tolist():
            shelf.put(ids[at : at + 1], rows[at : at + 1])


def _take_store(block: Block, file: Any, ids: np.ndarray) -> None:
    """Give this block's nodes back what they had gathered, if they gather."""
    if block.store is None:
        return
    names = [name for name in file.keys() if name.startswith("store.")]  # noqa: SIM118
    filed = {name.removeprefix("store."): file.get_tensor(name) for name in names}
    if not filed:
        raise CheckpointError("it holds no gathered examples, and this run's nodes gather some")
    block.store.restore(ids, filed)


def _take_mail(block: Block, file: Any, path: Path) -> None:
    """Put back what was sent to nodes of this block and not taken yet."""
    names = [name for name in file.keys() if name.startswith("mail.")]  # noqa: SIM118
    try:
        letters = from_tensors({n.removeprefix("mail."): file.get_tensor(n) for n in names})
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} holds {error}") from error
    here = set(block.ids.tolist())
    block.mail += [letter for letter in letters if letter.receiver in here]


def _take_past(block: Block, file: Any) -> None:
    """Take up what is under way from nodes of this block, and what they were and will be again."""
    here = set(block.ids.tolist())
    links = [key for key in file.keys() if key.startswith("links.")]  # noqa: SIM118
    ways = read_links({key.removeprefix("links."): file.get_tensor(key) for key in links})
    block.links |= {link: way for link, way in ways.items() if link[0] in here}
    for key in (key for key in file.keys() if key.startswith("past.")):  # noqa: SIM118
        _, after, node, name = key.split(".", 3)
        if int(node) in here:
            block.past.setdefault((int(after), int(node)), {})[name] = file.get_tensor(key)


def _take_outcome(block: Block, file: Any, facts: dict[str, str] | None) -> None:
    """Add what the nodes of a file came to, if their run has ended, to the block's outcome."""
    if facts is None:
        return
    end = block.outcome or Outcome(which=cast(Which, facts["which"]), reason=facts["reason"])
    if "outcome.ids" in file.keys():  # noqa: SIM118
        ids = file.get_tensor("outcome.ids").numpy()
        ours = np.flatnonzero(np.isin(ids, block.ids))
        rows = file.get_tensor("outcome.rows")[torch.from_numpy(ours)].to(block.rows.device)
        if end.ids is not None and end.rows is not None:
            ids, rows = np.concatenate([end.ids, ids[ours]]), torch.cat([end.rows, rows])
            order = np.argsort(ids)
            end = replace(end, ids=ids[order], rows=rows[torch.from_numpy(order)])
        else:
            end = replace(end, ids=ids[ours], rows=rows)
    block.outcome = end
