"""An artefact built from models: each is read once, block by block, and what was killed goes on.

First the blocks are read and written, each version once. Then what is ranked over a whole model is
found. Then, block by block, every algorithm's similarities and the losses of its merges follow.
Whatever has been done stays on disk, so that another start goes on behind it, to the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hansa.base.bundle import bundle_file, read_facts
from hansa.base.errors import ConfigError
from hansa.base.files import write_json, writing
from hansa.combine.merge.algorithms.merging import MergingAlgorithm
from hansa.combine.merge.artefact import FORMAT, Artefact, index_path
from hansa.combine.merge.artefact_steps import BuildSteps, Progress
from hansa.combine.merge.block_layout import lay_out
from hansa.combine.merge.dendrogram import Linkage
from hansa.weights.blocks import BlockPart
from hansa.weights.model_folder import ModelFolder, check_same


def build_artefact(
    models: Sequence[ModelFolder],
    base: ModelFolder,
    place: Path,
    algorithms: Mapping[str, MergingAlgorithm] | Sequence[MergingAlgorithm],
    *,
    parts: Mapping[str, Sequence[BlockPart]] | None = None,
    heads: Collection[str] = (),
    names: Sequence[str] | None = None,
    linkage: Linkage = "min",
    seed: int = 0,
    losses: bool = True,
    progress: Progress | None = None,
) -> Artefact:
    """Build an artefact in a folder, or go on with one that was begun there.

    Peak memory: the base's and all models' numbers of the largest block, in float32, once, and once
    more for algorithms that trim or drop; beside it a few vectors of that block.

    Args:
        models: fine-tuned from ``base``.
        algorithms: by a label, or a list, whose names are their labels.
        parts: blocks; None: sub-layers.
        heads: beginnings of names that every model has for itself.
        names: of the models; None: their folders'.
        linkage: of the dendrograms whose merges' losses are measured.
        losses: whether they are measured.

    Raises:
        ConfigError: models, settings or numbers that cannot be merged; nothing is left behind.
        DiskError: the disk is full or fails.
    """
    labelled = algorithms if isinstance(algorithms, Mapping) else {a.name: a for a in algorithms}
    names = tuple(names or [model.name for model in models])
    _check(models, base, labelled, names, heads)
    layouts = lay_out(base, heads, parts)
    settings = {
        "format": FORMAT,
        "names": list(names),
        "linkage": linkage,
        "seed": seed,
        "losses": losses,
        "heads": sorted(heads),
        "algorithms": {label: a.dump() for label, a in labelled.items()},
        "layouts": [layout.to_json() for layout in layouts],
        "sources": [_state(model) for model in [base, *models]],
    }
    # What JSON makes of it, to compare it with what was written.
    settings = json.loads(json.dumps(settings))
    fresh = not place.exists()
    try:
        _begin(place, settings)
        build = BuildSteps(models, base, place, labelled, layouts, settings, progress)
        if not bundle_file(index_path(place)).is_file():
            build.run()
    except ConfigError:
        if fresh:
            shutil.rmtree(place, ignore_errors=True)
        raise
    return Artefact.open(place)


def _check(
    models: Sequence[ModelFolder],
    base: ModelFolder,
    algorithms: Mapping[str, MergingAlgorithm],
    names: Sequence[str],
    heads: Collection[str],
) -> None:
    if len(models) < 2:
        raise ConfigError("models", len(models), "are too few to merge", "give two or more")
    if len(names) != len(models) or len(set(names)) != len(names):
        raise ConfigError("names", list(names), "do not name each model once", "one a model")
    if not algorithms:
        raise ConfigError("algorithms", [], "is empty", "name one, such as averaging")
    if bad := [label for label in algorithms if "/" in label or not label]:
        raise ConfigError("algorithms", bad[0], "is no label", "letters, digits, - and _")
    for label, algorithm in algorithms.items():
        try:
            algorithm.check(len(models))
        except ConfigError as error:
            raise error.under(label if error.field != "algorithms" else "") from None
        for file in algorithm.statistics:
            if not set(ModelFolder.open(Path(file)).entries) & set(base.entries):
                problem = "holds no statistic of a tensor of these models"
                fix = "name each as its tensor is named"
                raise ConfigError(f"{label}.files", file, problem, fix)
    check_same([base, *models], heads)


def _state(model: ModelFolder) -> list[Any]:
    """By which it shows that a model's files are not those of before."""
    files = sorted({entry.file for entry in model.entries.values()})
    return [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def _begin(place: Path, settings: Mapping[str, Any]) -> None:
    """Note what is built, or hold it against what was begun.

    Raises:
        ConfigError: something else was begun, or stands, there.
    """
    note = place / "build.json"
    if note.is_file():
        before = read_facts(note)
        if before != settings:
            other = next((k for k in settings if before.get(k) != settings[k]), "format")
            problem = f"was begun with other {other}"
            raise ConfigError("artefact", str(place), problem, "name another place, or remove it")
    elif place.exists() and any(place.iterdir()):
        fix = "name another place"
        raise ConfigError("artefact", str(place), "holds something else", fix)
    else:
        with writing(place):
            (place / "blocks").mkdir(parents=True, exist_ok=True)
            (place / "measures").mkdir(exist_ok=True)
        write_json(note, settings)
