"""Members that somebody brings: models trained elsewhere, checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import CheckpointError, ConfigError, HansaError
from hansa.base.lazy import safetensors, safetensors_torch, torch
from hansa.base.streams import Streams
from hansa.combine.ensemble.ensemble_settings import Brought, EnsembleSettings, Predictor
from hansa.combine.ensemble.members import Member, Preparing, packed
from hansa.combine.ensemble.predictor_file import unpack
from hansa.combine.ensemble.predictors import AGREEING, OVR, Fitted
from hansa.combine.ensemble.proxies import Division
from hansa.data import Dataset
from hansa.models import Model, initial_model

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class RunModel:
    """What a run of ``hansa learn`` came to.

    Attributes:
        form, module: the network.
        dataset: what it was trained on: its classes, and how it prepares inputs.
    """

    form: Model
    module: nn.Module
    dataset: Dataset


OpenRun = Callable[[Path, int | None], RunModel]
"""Reads a run's folder; of several models that of a node."""


def no_runs(path: Path, node: int | None) -> RunModel:
    """Where nobody can open runs.

    Raises:
        ConfigError: always.
    """
    raise ConfigError("path", str(path), "is a folder; runs are opened by hansa.experiment", "")


def owners(settings: EnsembleSettings) -> dict[int, int]:
    """Which entry of ``members`` each client that brings a model brings.

    Raises:
        ConfigError: two are one client's, or there is no such client.
    """
    entry_of: dict[int, int] = {}
    for k, item in enumerate(settings.members):
        client = k if item.client is None else item.client
        if not 0 <= client < settings.clients:
            fix = f"numbers from 0 to {settings.clients - 1}, or more clients"
            problem = f"there are {settings.clients} clients"
            raise ConfigError(f"members.{k}.client", client, problem, fix)
        if client in entry_of:
            problem = f"brings members.{entry_of[client]} already"
            raise ConfigError(f"members.{k}.client", client, problem, "each client one model")
        entry_of[client] = k
    return {client: k for client, k in entry_of.items() if client not in settings.without}


def bring(
    settings: EnsembleSettings, dataset: Dataset, open_run: OpenRun = no_runs
) -> dict[int, Member]:
    """The members that are brought, by client, each tried on two examples.

    Raises:
        ConfigError: one cannot be read, or does not fit the data; names the entry and what is
            wrong.
    """
    members = {}
    for client, k in owners(settings).items():
        item = settings.members[k]
        try:
            member = _read(settings, dataset, client, item, open_run)
            _try(member, dataset, item)
        except ConfigError as error:
            raise error.under(f"members.{k}") from None
        except HansaError as error:
            problem = str(error).removeprefix(f"{item.path}: ")
            raise ConfigError(f"members.{k}.path", str(item.path), problem, "") from error
        members[client] = member
    return members


def counted(settings: EnsembleSettings, dataset: Dataset, division: Division) -> np.ndarray:
    """Training examples of each class of each member, int64 [M, classes]: what is said of those
    that are brought, else their client's here.

    Raises:
        ConfigError: a class is not known.
    """
    counts = division.counts.copy()
    names = list(dataset.class_names or map(str, range(dataset.spec.classes)))
    for client, k in owners(settings).items():
        said = settings.members[k].examples_of_class
        if said is None:
            continue
        for name in said:
            if name not in names:
                fix = f"some of {', '.join(names)}"
                field = f"members.{k}.examples_of_class"
                raise ConfigError(field, name, "is not a class of the data", fix)
        counts[division.clients.index(client)] = [said.get(name, 0) for name in names]
    return counts


def _read(
    settings: EnsembleSettings, dataset: Dataset, client: int, item: Brought, open_run: OpenRun
) -> Member:
    path = item.path
    if not path.exists():
        raise ConfigError("path", str(path), "there is no such file or folder", "check the path")
    way = None if item.takes == "prepared" else _from_prepared(dataset, None, None)
    if path.is_dir():
        run = open_run(path, item.node)
        _same_classes(run.dataset, dataset, path)
        way = _from_prepared(dataset, run.dataset.scale, run.dataset.shift)
        return _network(settings, client, run.form, run.module, way, item)
    if path.suffix == ".skops":
        return _predictor(dataset, client, item, way)
    if path.suffix != ".safetensors":
        fix = ".safetensors with a model, .skops, or the folder of a run of hansa learn"
        raise ConfigError("path", str(path), "is of no known kind", fix)
    if item.model is None:
        problem = "holds numbers, and not what they are the numbers of"
        raise ConfigError("model", None, f"{path.name} {problem}", "model: mlp, or your own module")
    module = initial_model(item.model, dataset.spec, Streams(settings.seed))
    _fill(module, path)
    return _network(settings, client, item.model, module, way, item)


def _network(
    settings: EnsembleSettings,
    client: int,
    form: Model,
    module: nn.Module,
    way: Preparing | None,
    item: Brought,
) -> Member:
    how = "int8" if settings.quantize == "static" else settings.quantize
    kind = None if item.scores == "auto" else item.scores
    return packed(how, client, form, module.eval(), preparing=way, kind=kind)


def _fill(module: nn.Module, path: Path) -> None:
    """Give a network the numbers of a file.

    Raises:
        ConfigError: they are another network's; says which is the first that does not fit.
    """
    try:
        state = safetensors_torch.load(path.read_bytes())
    except (safetensors.SafetensorError, OSError) as error:
        raise ConfigError("path", str(path), f"cannot be read ({error})", "") from error
    wanted = module.state_dict()
    lacking, more = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    fix = "the model that was saved, as model.state_dict()"
    if lacking or more:
        words = f"lacks {lacking[0]}" if lacking else f"holds {more[0]}, which the model has not"
        if lacking and more:
            words += f" and holds {more[0]}"
        raise ConfigError("path", str(path), words, fix)
    for name, value in wanted.items():
        if state[name].shape != value.shape:
            words = f"{name} is {list(state[name].shape)} where model, classes and inputs of the "
            raise ConfigError("path", str(path), f"{words}data need {list(value.shape)}", fix)
        if not torch.isfinite(state[name].double()).all():
            raise ConfigError("path", str(path), f"{name} holds a number that is not finite", fix)
    module.load_state_dict(state)


def _predictor(dataset: Dataset, client: int, item: Brought, way: Preparing | None) -> Member:
    path, spec = item.path, dataset.spec
    data = path.read_bytes()
    try:
        predictor = unpack(data, math.prod(spec.shape), item.trust, path.name)
    except ConfigError as error:
        raise ConfigError("path", str(path), error.problem, "trust: true, if you know it") from None
    except CheckpointError as error:
        raise ConfigError("path", str(path), str(error), "a file of skops.io.dump") from None
    if not hasattr(predictor, "predict_proba") and not hasattr(predictor, "decision_function"):
        problem = "has neither predict_proba nor decision_function"
        raise ConfigError("path", str(path), problem, "a fitted classifier")
    wanted = getattr(predictor, "n_features_in_", math.prod(spec.shape))
    order = _order(predictor, dataset, path)
    if wanted != (math.prod(spec.shape) if order is None else len(order)):
        problem = f"takes {wanted} numbers, an example has {math.prod(spec.shape)}"
        raise ConfigError("path", str(path), problem, "data.inputs: the columns it was fitted on")
    if order is not None:
        way = (way or Preparing()).picking(order)
    seen = _classes(predictor, dataset, path)
    module = Fitted(predictor, seen, spec.classes, spec.outputs).eval()
    kind = type(predictor)
    form = Predictor(path=f"{kind.__module__}:{kind.__qualname__}")
    return Member(client, form, module, len(data), stored=data, preparing=way)


def _order(predictor: Any, dataset: Dataset, path: Path) -> list[int] | None:
    """Where the columns that a predictor was fitted on lie among the data's; None: as they come."""
    names = _numbers(dataset)
    fitted = getattr(predictor, "feature_names_in_", None)
    if fitted is None or not names:
        return None
    places = {name: k for k, spellings in enumerate(names) for name in spellings}
    missing = [str(name) for name in fitted if name not in places]
    if missing:
        problem = f"was fitted on column {missing[0]!r}, which the data have not"
        shown = ", ".join(spellings[0] for spellings in names)
        fix = f"columns {shown}; or fit it on numbers without names, in that order"
        raise ConfigError("path", str(path), problem, fix)
    order = [places[name] for name in fitted]
    return None if order == list(range(len(names))) else order


def _numbers(dataset: Dataset) -> list[tuple[str, ...]]:
    """What each number of an example may be called, where its columns have names.

    A word's 0 or 1 is called as ``pandas.get_dummies`` and scikit-learn's OneHotEncoder do.
    """
    names_of: list[tuple[str, ...]] = []
    for feature in dataset.features:
        name, words = feature["name"], feature["words"]
        if words is not None:
            names_of += [tuple(f"{name}{mark}{word}" for mark in "_=") for word in words]
        elif feature["width"] == 1:
            names_of.append((name,))
        else:
            names_of += [(f"{name}_{k}",) for k in range(feature["width"])]
    return names_of


def _classes(predictor: Any, dataset: Dataset, path: Path) -> np.ndarray:
    """The data's class of each of a predictor's: all by name, or all by number."""
    names = list(dataset.class_names or map(str, range(dataset.spec.classes)))
    own_classes = getattr(predictor, "classes_", None)
    if own_classes is None:
        return np.arange(dataset.spec.classes)
    values = np.asarray(own_classes).tolist()
    whole = [isinstance(value, int | float) and value == int(value) for value in values]
    called = [str(int(v)) if w else str(v) for v, w in zip(values, whole, strict=True)]
    if all(name in names for name in called):
        ids = [names.index(name) for name in called]
    elif all(w and 0 <= v < len(names) for v, w in zip(values, whole, strict=True)):
        ids = [int(value) for value in values]
    else:
        strange = next(v for v, name in zip(values, called, strict=True) if name not in names)
        problem = f"knows class {strange!r}, which the data have not"
        fix = f"classes {', '.join(names)}, or their places, from 0"
        raise ConfigError("path", str(path), problem, fix)
    return np.asarray(ids, dtype=np.int64)


def _same_classes(theirs: Dataset, ours: Dataset, path: Path) -> None:
    one, other = theirs.spec, ours.spec
    for what, a, b in (
        ("kind", one.kind, other.kind),
        ("shape", tuple(one.shape), tuple(other.shape)),
        ("outputs", one.outputs, other.outputs),
        ("classes", tuple(theirs.class_names), tuple(ours.class_names)),
        ("columns", [f["name"] for f in theirs.features], [f["name"] for f in ours.features]),
    ):
        if a != b and a and b:
            problem = f"was trained on data of other {what}: {a}, not {b}"
            raise ConfigError("path", str(path), problem, "a run on data of the same form")


def _from_prepared(
    dataset: Dataset, scale: Tensor | None, shift: Tensor | None
) -> Preparing | None:
    """From this run's model inputs to ``stored * scale + shift``; None where both are one."""

    def number(value: Tensor | None, otherwise: float) -> Tensor:
        return torch.tensor(otherwise).double() if value is None else value.double().cpu()

    factor = number(scale, 1) / number(dataset.scale, 1)
    offset = number(shift, 0) - number(dataset.shift, 0) * factor
    if torch.all(factor == 1) and torch.all(offset == 0):
        return None
    return Preparing(factor.float(), offset.float())


def _try(member: Member, dataset: Dataset, item: Brought) -> None:
    """Refuse a member that does not score two examples, or scores other classes than it says."""
    inputs, _ = dataset.gather(dataset.train, torch.arange(min(2, len(dataset.train))))
    try:
        with torch.no_grad():
            scores = member.asked(inputs)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        problem = f"fails on an example of the data: {error}"
        raise ConfigError("path", str(item.path), problem, "a model of such inputs") from error
    wanted = [len(inputs), dataset.spec.outputs]
    if list(scores.shape) != wanted:
        problem = f"gives {list(scores.shape)} for {wanted[0]} examples, not {wanted}"
        raise ConfigError("path", str(item.path), problem, "a model of the same classes")
    if not torch.isfinite(scores).all():
        raise ConfigError("path", str(item.path), "gives scores that are not finite", "")
    if isinstance(member.module, Fitted):
        some = torch.arange(min(AGREEING, len(dataset.train)))
        inputs, _ = dataset.gather(dataset.train, some)
        prepared = inputs if member.preparing is None else member.preparing(inputs)
        if problem := member.module.strange_margins(prepared):
            raise ConfigError("path", str(item.path), problem, OVR)
