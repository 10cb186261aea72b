"""mergekit's YAML, for the methods that both have, as settings of a merge into one model.

mergekit (Goddard et al. 2024) trims each tensor by itself and weighs before it votes; the settings
made here say so. What hansa does not do in mergekit's meaning is refused by its name, so that no
setting of such a file goes without effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.paths import located

METHODS = ("linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties")
_ELSEWHERE = {
    "slices": "layers of models are not put together anew",
    "modules": "modules are not merged by rules of their own",
    "tokenizer": "tokenizers are not made anew",
    "chat_template": "chat templates are not changed",
}
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
_OF_VECTORS = frozenset({"normalize", "lambda", "int8_mask", "rescale"})
_SPARSE = frozenset({"weight", "density"})
_SHARED: dict[str, frozenset[str]] = {
    "linear": frozenset({"normalize"}),
    "slerp": frozenset({"t"}),
    **dict.fromkeys(("task_arithmetic", "ties", "dare_linear", "dare_ties"), _OF_VECTORS),
}
"""What may be set for all models together."""

_OF_A_MODEL: dict[str, frozenset[str]] = {
    "linear": frozenset({"weight"}),
    "slerp": frozenset(),
    **dict.fromkeys(("task_arithmetic", "ties", "dare_linear", "dare_ties"), _SPARSE),
}
"""What may be set for one model, or for all alike."""


@dataclass(frozen=True)
class _Input:
    """One of the models: its folder and what was set for it."""

    path: Path
    parameters: Mapping[str, Any]


def in_own_form(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of any file: those of mergekit's turned into hansa's, others as they are."""
    return from_mergekit(settings) if "merge_method" in settings else settings


def from_mergekit(settings: Mapping[str, Any]) -> dict[str, Any]:
    """hansa's settings of the merge that a file of mergekit's describes.

    Models are folders; names on a hub are not looked up. hansa computes in float32 and stores the
    type of the models: a ``dtype`` that is another is refused.

    Raises:
        ConfigError: names the setting that hansa does not have, or that is wrong.
    """
    method = settings.get("merge_method")
    if method not in METHODS:
        fix = f"one of {', '.join(METHODS)}; hansa's own are in hansa list merging"
        raise ConfigError("merge_method", method, "is not one that both have", fix)
    _check_keys(settings, method)
    base = _folder(settings["base_model"], "base_model") if settings.get("base_model") else None
    inputs = _inputs(settings, method)
    shared = _parameters(settings.get("parameters"), "parameters")
    _refuse_unknown(shared, _SHARED[method] | _OF_A_MODEL[method], "parameters", method)
    make = {"linear": _linear, "slerp": _slerp}.get(method, _task_vectors)
    first, chosen, algorithm = make(method, base, inputs, shared)
    _check_dtype(settings, [first, *chosen])
    return {
        "verb": "merge",
        "tasks": {"name": "none", "base": str(first), "models": _named(chosen)},
        "algorithms": [algorithm],
        "sizes": [1],
    }


def _check_keys(settings: Mapping[str, Any], method: str) -> None:
    for key, reason in _ELSEWHERE.items():
        if settings.get(key):
            raise ConfigError(key, None, reason, "take it out, or use mergekit for this file")
    if (source := settings.get("tokenizer_source")) not in (None, "base"):
        problem = "tokenizers are not made anew: models have to have the same"
        raise ConfigError("tokenizer_source", source, problem, "take it out, or write base")
    expected = {
        *("merge_method", "models", "base_model", "parameters", "dtype", "out_dtype"),
        *("tokenizer_source", *_ELSEWHERE),
    }
    if strange := sorted(set(map(str, settings)) - expected):
        raise ConfigError(strange[0], settings[strange[0]], "is no setting of such a file")


def _inputs(settings: Mapping[str, Any], method: str) -> list[_Input]:
    models = settings.get("models")
    if not isinstance(models, list) or not models:
        raise ConfigError("models", models, "is no list of models", "a list of {model: FOLDER}")
    inputs = []
    for number, about in enumerate(models):
        field = f"models.{number}"
        if not isinstance(about, Mapping) or "model" not in about:
            raise ConfigError(field, about, "names no model", "write {model: FOLDER}")
        if strange := sorted(set(about) - {"model", "parameters"}):
            raise ConfigError(f"{field}.{strange[0]}", None, "is no setting of a model")
        own = _parameters(about.get("parameters"), f"{field}.parameters")
        _refuse_unknown(own, _OF_A_MODEL[method], f"{field}.parameters", method)
        inputs.append(_Input(_folder(about["model"], f"{field}.model"), own))
    if len({one.path for one in inputs}) < len(inputs):
        raise ConfigError("models", None, "name one folder twice")
    return inputs


def _folder(value: Any, field: str) -> Path:
    text = value.get("model", {}) if isinstance(value, Mapping) else value
    if not isinstance(text, str):
        raise ConfigError(field, value, "is no folder", "the path of the model's folder")
    path = located(text)
    if not path.exists():
        fix = "the path of a folder; names on a hub, @revision and +lora are not looked up"
        raise ConfigError(field, str(text), "there is no such folder", fix)
    return path


def _parameters(value: Any, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(field, value, "is no mapping")
    for key, setting in value.items():
        if isinstance(setting, list | Mapping):
            problem = "changes by layer or by name of the tensor, which hansa has not"
            raise ConfigError(f"{field}.{key}", setting, problem, "one value for all tensors")
    return value


def _refuse_unknown(
    values: Mapping[str, Any], expected: frozenset[str], field: str, method: str
) -> None:
    if strange := sorted(set(values) - expected):
        fix = f"one of {', '.join(sorted(expected))}" if expected else "take it out"
        raise ConfigError(
            f"{field}.{strange[0]}", values[strange[0]], f"is none that {method} takes here", fix
        )


def _number(value: Any, field: str, least: float = -math.inf, most: float = math.inf) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or not least <= number <= most:
        within = f"between {least:g} and {most:g}" if math.isfinite(least) else "that is finite"
        raise ConfigError(field, value, f"is no number {within}")
    return number


def _switch(shared: Mapping[str, Any], key: str, usual: bool) -> bool:
    value = shared.get(key, usual)
    if not isinstance(value, bool):
        raise ConfigError(f"parameters.{key}", value, "is neither true nor false")
    return value


def _each(
    inputs: list[_Input], shared: Mapping[str, Any], key: str, usual: float | None = None
) -> list[float]:
    """A parameter of each model: its own, else the one for all."""
    values = []
    for number, one in enumerate(inputs):
        value = one.parameters.get(key, shared.get(key, usual))
        field = f"models.{number}.parameters.{key}"
        if value is None:
            raise ConfigError(field, None, f"{one.path.name} has no {key}", "set it for each model")
        values.append(_number(value, field, 0, 1 if key == "density" else math.inf))
    return values


Made = tuple[Path, list[Path], dict[str, Any]]
"""The base, the models that are merged, and the algorithm."""


def _linear(
    method: str, base: Path | None, inputs: list[_Input], shared: Mapping[str, Any]
) -> Made:
    """Weights of models, the base one of them: what all are told apart from does not matter."""
    if base is not None and base not in [one.path for one in inputs]:
        inputs = [*inputs, _Input(base, {})]
    weights = _each(inputs, shared, "weight")
    if not _switch(shared, "normalize", True) and not math.isclose(sum(weights), 1, abs_tol=1e-6):
        problem = "would scale the whole model: the weights do not sum to 1"
        raise ConfigError("parameters.normalize", False, problem, "weights that do, or true")
    paths = [one.path for one in inputs]
    return base or paths[0], paths, {"name": "averaging", "weights": weights}


def _slerp(method: str, base: Path | None, inputs: list[_Input], shared: Mapping[str, Any]) -> Made:
    if base is None:
        raise ConfigError("base_model", None, "slerp goes from it to the other model")
    others = [one.path for one in inputs if one.path != base]
    if len(others) != 1:
        raise ConfigError("models", None, f"slerp goes to one other model, not {len(others)}")
    if "t" not in shared:
        raise ConfigError("parameters.t", None, "is not set", "a number between 0 and 1")
    t = _number(shared["t"], "parameters.t", 0, 1)
    return base, [base, others[0]], {"name": "slerp", "t": t}


def _task_vectors(
    method: str, base: Path | None, inputs: list[_Input], shared: Mapping[str, Any]
) -> Made:
    if base is None:
        raise ConfigError("base_model", None, f"{method} takes differences from it")
    inputs = [one for one in inputs if one.path != base]
    weights = _each(inputs, shared, "weight")
    scale = _number(shared.get("lambda", 1.0), "parameters.lambda")
    _switch(shared, "int8_mask", False)  # spares memory in mergekit and changes no result
    rescale = _switch(shared, "rescale", method.startswith("dare"))
    if rescale and not method.startswith("dare"):
        problem = (
            f"stretches each trimmed difference to its old length, which hansa's {method} has not"
        )
        raise ConfigError("parameters.rescale", True, problem, "false")
    normalize = _switch(shared, "normalize", method == "ties")
    paths = [one.path for one in inputs]
    densities = _each(inputs, shared, "density", 1.0)
    votes = method in ("ties", "dare_ties")
    inner: dict[str, Any] = {"weights": weights, "scale": scale}
    if method == "task_arithmetic" and set(densities) != {1.0}:
        raise ConfigError("density", densities, "has no effect in task_arithmetic", "ties")
    if votes:
        inner |= {"name": "ties", "scope": "tensor", "density": 1.0, "normalize": normalize}
        inner |= {"vote": "after_weights", "tie": "positive"}
    else:
        inner |= {"name": "task_arithmetic", "form": "mean" if normalize else "sum"}
    if method == "ties":
        if min(densities) <= 0:
            raise ConfigError("density", 0, "leaves nothing of a model", "above 0")
        same = len(set(densities)) == 1
        inner |= {"density": densities[0]} if same else {"densities": densities}
    if not method.startswith("dare"):
        return base, paths, inner
    drops = [1 - density for density in densities]
    outer: dict[str, Any] = {"drops": drops} if len(set(drops)) > 1 else {"drop": drops[0]}
    return base, paths, {"name": "dare", **outer, "rescale": rescale, "inner": inner}


def _named(paths: list[Path]) -> dict[str, str]:
    """Models by the names of their folders, numbered where two are alike."""
    names = [path.stem if path.is_file() else path.name for path in paths]
    return {
        name if names.count(name) == 1 else f"{name}-{number}": str(path)
        for number, (name, path) in enumerate(zip(names, paths, strict=True))
    }


def _check_dtype(settings: Mapping[str, Any], paths: list[Path]) -> None:
    """Only the models' own type is asked for."""
    from hansa.weights.model_folder import ModelFolder
    from hansa.weights.tensor_file import FLOATS

    asked = {key: settings[key] for key in ("dtype", "out_dtype") if settings.get(key)}
    for key, value in asked.items():
        if value not in _DTYPES:
            raise ConfigError(key, value, "is no type", f"one of {', '.join(_DTYPES)}")
        for path in paths:
            stored = {e.dtype for e in ModelFolder.open(path).entries.values()} & FLOATS
            if stored != {_DTYPES[value]}:
                problem = f"{path.name} is stored in {', '.join(sorted(stored))}"
                fix = "take it out: hansa computes in float32 and stores the models' own type"
                raise ConfigError(key, value, problem, fix)
