"""What was meant by a setting that is not there: its full name, with the value as it must be."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from hansa.base.component import Component, find, names, setting_names
from hansa.base.errors import ConfigError
from hansa.base.yamltext import in_a_line
from hansa.data.tablefile import BINARY, TEXT

SYNONYMS = {
    "alpha": ("concentration", "beta", "dirichlet_alpha"),
    "batch_size": ("batch", "batchsize", "bs", "local_batch_size", "B"),
    "categories": ("categorical", "categoricals", "one_hot", "encoding"),
    "codec": ("upload", "compression", "compressor", "quantizer"),
    "data": ("dataset",),
    "degree": ("neighbors", "neighbours", "k"),
    "exclude": ("drop", "drop_columns", "ignore", "ignore_columns", "exclude_columns"),
    "device": ("gpu", "cuda"),
    "group": ("owner", "owners", "group_by", "group_column", "site_column", "client_column"),
    "hidden": ("hidden_size", "hidden_sizes", "hidden_layers", "hidden_dim", "width", "layers"),
    "every": ("eval_every", "evaluate_every", "eval_interval", "log_every", "test_every"),
    "inputs": ("features", "columns", "feature_columns", "input_columns", "predictors", "x", "X"),
    "label": ("target", "labels", "targets", "label_column", "target_column", "y", "outcome"),
    "local_epochs": ("epochs", "num_epochs", "local_epoch", "client_epochs", "E"),
    "local_steps": ("steps", "num_steps", "local_iterations"),
    "lr": ("learning_rate", "eta", "step_size", "client_lr"),
    "model": ("network", "net", "architecture"),
    "missing": ("missing_value", "nan", "na", "fillna", "impute"),
    "mu": ("proximal_mu", "prox"),
    "nodes": ("clients", "num_clients", "n_clients", "num_nodes", "n_nodes", "num_workers"),
    "path": ("filename", "csv", "csv_path", "data_path"),
    "rounds": ("num_rounds", "n_rounds", "iterations", "global_rounds", "comm_rounds"),
    "sampled": ("clients_per_round", "cohort_size", "participants"),
    "schedule": ("scheduler", "lr_scheduler"),
    "seed": ("random_seed", "random_state"),
    "test_fraction": ("test_size", "test_split", "test_ratio"),
    "topology": ("graph",),
    "weight_decay": ("wd", "l2"),
}
"""How others call what is called so here."""
RENAMED = {"aggregators": "rules", "drop_rate": "faults.loss"}
"""What former settings are called now."""
FRACTIONS = {
    "fraction",
    "fraction_fit",
    "client_fraction",
    "participation",
    "sample_rate",
    "frac",
    "c",
    "C",
}
"""How others call the share of the clients that is invited, of which hansa wants the number."""
USUAL = {"fedavg", "regular", "shards", "dirichlet"}
"""What is proposed first of several parts that have a setting."""
_OURS = {other: name for name, others in SYNONYMS.items() for other in others}


@dataclass(frozen=True)
class Setting:
    """Where a setting is: its dotted name, its type, and the parts that must be chosen for it.

    The type of what belongs to a part that is not chosen is looked up in ``part``, (kind, name).
    """

    path: tuple[str, ...]
    declared: Any
    chosen: tuple[str, ...] = ()
    part: tuple[str, str] | None = None

    @property
    def annotation(self) -> Any:
        """Its type."""
        if self.part is None:
            return self.declared
        return find(*self.part).model_fields[self.path[-1]].annotation


def hinted(error: ConfigError, schema: type[BaseModel], settings: Mapping[str, Any]) -> ConfigError:
    """The same error; where a setting is not there, its fix begins with what was likely meant, and
    its problem ends with why it cannot be there, if the part says so (``Algorithm.lacks``)."""
    answer = _answered(error, schema, settings)
    why = _why_not(error, schema, settings)
    if why:
        answer.problem = f"{answer.problem}: {why}"
    return answer


def takes_list(schema: type[BaseModel], settings: Mapping[str, Any], field: str) -> bool:
    """Whether a setting, by its dotted name, is a list itself, with the parts that are chosen."""
    words = tuple(field.split("."))
    inside = (
        place.annotation for place in places(schema, settings, others=False) if place.path == words
    )
    return any(
        get_origin(one) in (tuple, list) for kind in inside for one in (kind, *get_args(kind))
    )


def _why_not(error: ConfigError, schema: type[BaseModel], settings: Mapping[str, Any]) -> str:
    """Why a part that is chosen lacks a setting that others of its kind have; empty: not told."""
    *inside, last = error.field.split(".")
    if error.problem != "there is no such setting":
        return ""
    for place in places(schema, settings, others=False):
        if list(place.path) == inside and (kind := class_in(place.annotation)) is not None:
            chosen = _chosen(getattr(kind, "kind", ""), _at(settings, inside), None)
            why = getattr(chosen, "lacks", {}).get(last, "")
            return f"{getattr(chosen, 'name', '')} {why}" if why else ""
    return ""


def _answered(
    error: ConfigError, schema: type[BaseModel], settings: Mapping[str, Any]
) -> ConfigError:
    if own := _brought(error):
        fix = f"did you mean {own}? {error.fix}"
        return ConfigError(error.field, error.value, error.problem, fix)
    words = error.field.split(".")
    value_given = _at(settings, words)
    if error.problem.startswith("belongs to"):
        alike = (_OURS.get(words[-1], ""), *SYNONYMS.get(words[-1], ()))
        if ours := next((name for name in alike if name in schema.model_fields), ""):
            fix = f"{error.fix}, or did you mean {_written((ours,), value_given)}?"
            return ConfigError(error.field, error.value, error.problem, fix)
        return error
    if error.problem == "there is no such setting":
        now = RENAMED.get(words[-1], "")
        if now.split(".")[0] in schema.model_fields:
            return ConfigError(error.field, error.value, error.problem, f"now {now}")
        if fix := _misplaced(words, schema, settings):
            return ConfigError(error.field, error.value, error.problem, fix)
        whole = isinstance(value_given, Mapping) and "name" in value_given  # a part of another
        leaves = [(words, value_given)] if whole else _leaves(words, value_given)
        meant = [_meant(path, value, schema, settings) for path, value in leaves]
        if not all(meant):
            return error
        fix = f"did you mean {' and '.join(m for m in meant if m)}?"
        if error.fix:
            fix += f" {error.fix.partition('? ')[2] or error.fix}"
        return ConfigError(error.field, error.value, error.problem, fix)
    for place in places(schema, settings, others=False):
        if list(place.path) != words:
            continue
        value = _fitting(value_given, place.annotation)
        if value is not None and value is not value_given:
            fix = f"did you mean {_written(place.path, value)}? {error.fix}"
            return ConfigError(error.field, error.value, error.problem, fix)
    return error


def _brought(error: ConfigError) -> str:
    """What to write for a file or a class of one's own that stands where a name must."""
    value = error.value
    if error.problem == "is no model":
        path = value if isinstance(value, str) and ":" in value else "file.py:Class"
        return f"model={{name: module, path: {path}}}"
    if error.problem == "there is no such data" and isinstance(value, str):
        place = Path(value).expanduser()
        if place.is_dir():
            return f"data={{name: image_folder, path: {value}}}"
        if place.suffix.lower() in (*TEXT, *BINARY, ".npz"):
            return f"data={{name: file, path: {value}}}"
    return ""


def _meant(
    words: list[str], value: Any, schema: type[BaseModel], settings: Mapping[str, Any]
) -> str:
    """What to write instead of a setting that is not there; empty where nothing is like it."""
    shares = words[-1] in FRACTIONS and "nodes" in schema.model_fields
    if shares and isinstance(value, int | float) and 0 < value <= 1:
        nodes = settings.get("nodes", schema.model_fields["nodes"].default)
        words, value = ["sampled"], max(1, round(value * nodes)) if isinstance(nodes, int) else 1
    name = _OURS.get(words[-1], words[-1])
    for others in (False, True):  # what could be chosen is only looked at where it has to be
        there = list(places(schema, settings, others))
        if near := _nearest(name, words, there):
            break
    else:
        return ""
    if not isinstance(value, Mapping) or "name" in value:
        fitting = [place for place in near if _fitting(value, place.annotation) is not None]
        if not (near := fitting):
            return ""
    # The parts that are chosen already, those that the words name, the shortest path.
    best = min(
        near,
        key=lambda place: (
            -len(set(words[:-1]) & set(place.path[:-1])),
            len(place.chosen),
            bool(place.chosen) and place.chosen[0].rpartition("=")[2] not in USUAL,
            place.path[0] != "train",
            len(place.path),
        ),
    )
    if isinstance(value, Mapping) and "name" not in value:
        return ".".join(best.path)
    return " ".join([*best.chosen, _written(best.path, _fitting(value, best.annotation))])


def _nearest(name: str, words: list[str], places: list[Setting]) -> list[Setting]:
    """The settings whose name is most like this one."""
    near = difflib.get_close_matches(name, {place.path[-1] for place in places}, n=1, cutoff=0.8)
    return [
        place
        for place in places
        if place.path[-1] in near and (place.chosen or list(place.path) != words)
    ]


def places(
    schema: type[BaseModel],
    settings: Any,
    others: bool,
    before: tuple[str, ...] = (),
    depth: int = 0,
) -> Iterator[Setting]:
    """Every setting of the parts that are chosen and, where asked, of the others there are."""
    for field, info in schema.model_fields.items():
        path = (*before, field)
        yield Setting(path, info.annotation)
        inner = class_in(info.annotation)
        if inner is None or depth > 3:
            continue
        inside = settings.get(field) if isinstance(settings, Mapping) else None
        if not issubclass(inner, Component):
            yield from places(inner, inside, others, path, depth + 1)
            continue
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        chosen = _chosen(inner.kind, inside, default)
        if chosen is not None:
            yield from places(chosen, inside, others, path, depth + 1)
        for name in names(inner.kind) if others and depth < 2 else ():
            if name != getattr(chosen, "name", None):
                for own in setting_names(inner.kind, name):
                    choice = _written((*path, "name"), name)
                    yield Setting((*path, own), None, (choice,), (inner.kind, name))


def _chosen(kind: str, given: Any, default: Any) -> type[BaseModel] | None:
    name = given.get("name") if isinstance(given, Mapping) else given
    if isinstance(name, str):
        try:
            return find(kind, name)
        except ConfigError:
            return None
    return type(default) if isinstance(default, Component) else None


def class_in(annotation: Any) -> type[BaseModel] | None:
    """The group or kind of parts of a field, also where it may be none."""
    for one in (annotation, *get_args(annotation)):
        if (
            inspect.isclass(one)
            and issubclass(one, BaseModel)
            and get_origin(annotation) is not tuple
        ):
            return one
    return None


def _misplaced(words: list[str], schema: type[BaseModel], settings: Mapping[str, Any]) -> str:
    """What to write where a part's name stands as a key, or a dotted name in a file."""
    at: Any = settings
    for k, word in enumerate(words):
        rest = ".".join(words[k:])
        if isinstance(at, Mapping) and k + 1 < len(words) and rest in at:
            nested: Any = at[rest]
            for inner in reversed(words):
                nested = {inner: nested}
            return f"did you mean {in_a_line(nested)[1:-1]}? keys with points belong to --set"
        at = at.get(word) if isinstance(at, Mapping) else None
    parents = [place for place in places(schema, settings, False) if list(place.path) == words[:-1]]
    kind = class_in(parents[0].annotation) if parents else None
    if kind is not None and issubclass(kind, Component) and words[-1] in names(kind.kind):
        return f"did you mean {_written(tuple(words[:-1]), words[-1])}, or name: {words[-1]} in it?"
    return ""


def _fitting(value: Any, annotation: Any) -> Any:
    """The value, or a list of it where one is wanted; None where neither fits."""
    try:
        adapter = TypeAdapter(annotation)
        for candidate in (value, [value]):
            try:
                adapter.validate_python(candidate)
            except (ValidationError, ConfigError):
                continue
            return candidate
    except Exception:  # noqa: BLE001 - a type that pydantic cannot check alone: as it is
        return value
    return None


def _written(path: tuple[str, ...], value: Any) -> str:
    return f"{'.'.join(path)}={in_a_line(value)}"


def _at(settings: Any, words: list[str]) -> Any:
    for word in words:
        settings = settings.get(word) if isinstance(settings, Mapping) else None
    return settings


def _leaves(words: list[str], value: Any) -> Iterator[tuple[list[str], Any]]:
    """The settings under a name that is not there."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves([*words, str(key)], inner)
    else:
        yield words, value
