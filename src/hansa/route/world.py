"""What routing is tried on: tasks, a base and a pool of adapters, and the kind of what makes it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hansa.base.component import Component
from hansa.route.sets import RoutedTask

Say = Callable[[str], None]


@dataclass(frozen=True)
class World:
    """Tasks with a base and a pool on disk.

    Attributes:
        tasks: checked, in a fixed order.
        base: a transformers folder: a causal model, or an encoder that is asked by label texts.
        pool: a folder of PEFT folders, one an adapter.
        foreign: texts of no task, to which the router should say nothing; may be none.
        notes: what a reader must know of how it was made.
    """

    tasks: tuple[RoutedTask, ...]
    base: Path
    pool: Path
    foreign: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class RoutedTasks(Component, kind="routed_tasks"):
    """Where tasks, base and pool come from."""

    def check(self) -> None:
        """Refuse what cannot work, before anything is made.

        Raises:
            ConfigError: names the field.
        """

    @abstractmethod
    def build(self, seed: int, place: Path, say: Say) -> World:
        """Make or find all of it; what lies in ``place`` from before is gone on from.

        Args:
            place: a folder of its own.
        """
