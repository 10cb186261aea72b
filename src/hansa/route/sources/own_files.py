"""Tasks, base and adapters of one's own, on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.route.sets import Example
from hansa.route.sources.task_folder import read_tasks
from hansa.route.world import RoutedTasks, Say, World


@register("files")
class Files(RoutedTasks):
    """Tasks in JSON lines, a base in transformers' form, and PEFT folders: see docs/route.md."""

    folder: Path = Field(..., description="a folder with a folder of JSON lines for each task")
    base: Path = Field(..., description="the base: a causal model's or an encoder's folder")
    pool: Path = Field(..., description="a folder with the adapters' folders, as PEFT writes them")
    foreign: Path | None = Field(
        None, description="a text file, a line a text of no task, for the abstention"
    )

    def check(self) -> None:
        from hansa.route.base_models import generates
        from hansa.route.pool_loading import folders_of

        try:
            if not generates(self.base):
                for task in read_tasks(self.folder):
                    check_candidates(task.name, task.validation + task.test)
            read_tasks(self.folder)
            folders_of(self.pool)
            self._foreign()
        except ConfigError as error:
            raise error.under("tasks") from None

    def build(self, seed: int, place: Path, say: Say) -> World:
        tasks = tuple(read_tasks(self.folder))
        return World(tasks, self.base, self.pool, self._foreign())

    def _foreign(self) -> tuple[str, ...]:
        if self.foreign is None:
            return ()
        try:
            lines = self.foreign.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            problem = f"cannot be read: {error}"
            raise ConfigError("foreign", str(self.foreign), problem) from None
        return tuple(line for line in lines if line.strip())


def check_candidates(task: str, examples: Sequence[Example]) -> None:
    """Refuse examples without candidates, where the base is an encoder.

    Raises:
        ConfigError: names the task.
    """
    for example in examples:
        if not example.query.candidates:
            problem = f"{example.query.text[:60]!r} has no candidates, and the base cannot generate"
            raise ConfigError(f"tasks.{task}", None, problem, "candidates in every line")
