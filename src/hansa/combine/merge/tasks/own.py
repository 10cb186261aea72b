"""Models that somebody brings along, judged by a function of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, HansaError
from hansa.base.modules import load_object
from hansa.base.own_code import in_own_code, said
from hansa.base.paths import ObjectPath
from hansa.combine.merge.merge_tasks import MergeTasks, Say, Split, TaskSuite

if TYPE_CHECKING:
    from torch import Tensor

_EXPECTED = "a function (task, model) -> accuracy between 0 and 1"


@register("own")
class OwnModels(MergeTasks):
    """Models in folders of your own; a function of yours says how good each is at its task."""

    base: Path = Field(description="the folder of the model that all were fine-tuned from")
    models: dict[str, Path] = Field(description="the folder of each task's model, by task")
    score: ObjectPath = Field(
        description="file.py:function (task, model) -> accuracy in [0, 1] on examples of the test"
    )
    validate_by: ObjectPath | None = Field(
        None, description="the same on validation examples, to tune by; none: nothing is tuned"
    )
    module: ObjectPath | None = Field(
        None,
        description="file.py:function () -> torch.nn.Module into which weights are loaded for "
        "score; none: score is given the state dict",
    )

    @property
    def validates(self) -> bool:
        """By a function of its own."""
        return self.validate_by is not None

    @property
    def has_module(self) -> bool:
        """By a function of its own."""
        return self.module is not None

    def check(self) -> None:
        """Folders must be there, and functions must be functions."""
        check_folders(self.base, self.models)
        for field in ("score", "validate_by", "module"):
            self._function(field)

    def brought(self) -> tuple[Path, Mapping[str, Path]]:
        """As the settings say."""
        return self.base, self.models

    def suite(self, seed: int, place: Path, say: Say) -> TaskSuite:
        """As they lie there."""
        judge = _OwnJudge(self._function("score"), self._function("validate_by"),
                          self._function("module"))  # fmt: skip
        make = self._function("module")
        network = None if make is None else (lambda task: make())
        return TaskSuite(self.base, self.models, judge, make, network=network)

    def _function(self, field: str) -> Any:
        return own_function(f"tasks.{field}", getattr(self, field))


class _OwnJudge:
    def __init__(self, score: Any, validate: Any, make: Any) -> None:
        self._by = {"test": ("score", score), "validation": ("validate_by", validate)}
        self._make, self._module = make, None

    def __call__(self, task: str, state: Mapping[str, Tensor], split: Split) -> float:
        field, function = self._by[split]
        model = self._filled(state) if self._make is not None else dict(state)
        try:
            accuracy = float(function(task, model))
        except HansaError:
            raise
        except Exception as error:
            own = in_own_code(error, f"tasks.{field}", _EXPECTED)
            if own is None:
                raise
            raise own from error
        if not 0 <= accuracy <= 1:
            problem = f"gives {accuracy:g} for {task}"
            raise ConfigError(f"tasks.{field}", None, problem, "an accuracy between 0 and 1")
        return accuracy

    def _filled(self, state: Mapping[str, Tensor]) -> Any:
        """The module with these weights; what they do not name stays as it was made."""
        from hansa.base.lazy import nn

        if self._module is None:
            self._module = self._make()
        if not isinstance(self._module, nn.Module):
            problem = f"gives a {type(self._module).__name__}"
            raise ConfigError("tasks.module", None, problem, "a torch.nn.Module")
        try:
            _, strange = self._module.load_state_dict(dict(state), strict=False)
        except RuntimeError as error:
            fix = "a module of the models' own form"
            raise ConfigError("tasks.module", None, said(error), fix) from error
        if strange:
            problem = f"has no {strange[0]}"
            raise ConfigError("tasks.module", None, problem, "a module of the models' own form")
        return self._module.eval()


def own_function(field: str, path: str | None) -> Any:
    """The function at a path; None where none is named.

    Raises:
        ConfigError: there is no such function; names the field.
    """
    if path is None:
        return None
    try:
        function = load_object(path)
    except ConfigError as error:
        raise ConfigError(field, path, error.problem, error.fix) from None
    if not callable(function):
        raise ConfigError(field, path, "is no function", _EXPECTED)
    return function


def check_folders(base: Path | None, models: Mapping[str, Path]) -> None:
    """Refuse too few models, and folders that are not there.

    Raises:
        ConfigError: names the one.
    """
    if len(models) < 2:
        raise ConfigError("tasks.models", None, f"names {len(models)}", "two models or more")
    named = {f"models.{task}": path for task, path in models.items()}
    if base is not None:
        named = {"base": base, **named}
    for field, path in named.items():
        if not path.exists():
            problem = "there is no such folder or file"
            raise ConfigError(f"tasks.{field}", str(path), problem, "check the path")
