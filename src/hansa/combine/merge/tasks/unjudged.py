"""Models that are merged and not judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.paths import ObjectPath
from hansa.combine.merge.merge_tasks import MergeTasks, Say, TaskSuite
from hansa.combine.merge.tasks.own import check_folders, own_function


@register("none")
class Unjudged(MergeTasks):
    """Models in folders of your own that nobody judges: they are merged, and that is all."""

    judged: ClassVar[bool] = False
    base: Path = Field(description="the folder of the model that all were fine-tuned from")
    models: dict[str, Path] = Field(description="the folder of each task's model, by task")

    module: ObjectPath | None = Field(
        None, description="file.py:function () -> torch.nn.Module, for batch normalization"
    )

    @property
    def has_module(self) -> bool:
        """By a function of its own."""
        return self.module is not None

    def check(self) -> None:
        """Folders must be there."""
        check_folders(self.base, self.models)
        own_function("tasks.module", self.module)

    def brought(self) -> tuple[Path, Mapping[str, Path]]:
        """As the settings say."""
        return self.base, self.models

    def suite(self, seed: int, place: Path, say: Say) -> TaskSuite:
        """As they lie there."""
        make = own_function("tasks.module", self.module)
        return TaskSuite(self.base, self.models, make=make)
