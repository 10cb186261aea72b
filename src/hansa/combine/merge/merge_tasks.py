"""Tasks of a merge: where the models lie, and what says how good one is at its task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from hansa.base.component import Component

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hansa.data.signature import Signature

Split = Literal["validation", "test"]
Part = Literal["own", "test"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class TaskSuite:
    """Models of one origin, one a task.

    Attributes:
        base: the folder of the model that all began from.
        models: the folder of each task's fine-tuned model, by the task's name.
        judge: (task, state dict, split) -> accuracy in [0, 1]; None where nobody judges. A state
            dict holds the merged tensors; heads and all else of a task are the judge's own.
        make: an empty module of the models' form; None where there is none. Batch normalization
            needs one.
        examples: of the test, by task; empty where that is not known.
        notes: what a reader should know of the tasks.
        inputs: (task, part) -> examples of a task and their classes, as the network that ``make``
            makes reads them: those that its owner has, or those that judge it; None where examples
            do not tell whose they are. Routing needs it.
        network: task -> a network with what is the task's own in it (a head), to be filled with
            merged tensors; None: there is none.
        classes: names of a task's classes, where they are others than the signature's.
        signature: what such a network takes and gives; None: only its owner knows.
    """

    base: Path
    models: Mapping[str, Path]
    judge: Callable[[str, Mapping[str, Tensor], Split], float] | None = None
    make: Callable[[], nn.Module] | None = None
    examples: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    inputs: Callable[[str, Part], tuple[Tensor, Tensor]] | None = None
    network: Callable[[str], nn.Module] | None = None
    signature: Signature | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self.models)


class MergeTasks(Component, kind="merge_tasks"):
    """What is merged: models that are made here or brought along."""

    judged: ClassVar[bool] = True
    """Whether accuracies are measured."""

    @property
    def validates(self) -> bool:
        """Whether there are validation examples to tune by."""
        return False

    def check(self) -> None:
        """Refuse what cannot work, before anything is made or written.

        Raises:
            ConfigError: names the field.
        """

    @property
    def has_module(self) -> bool:
        """Whether the suite can make an empty module of the models' form."""
        return False

    def seen_as(self, task: str) -> str:
        """What a task's model learned in place of examples as they are stored; empty: these."""
        return ""

    def brought(self) -> tuple[Path, Mapping[str, Path]] | None:
        """(base, models by task) of models that exist already; None where they are made."""
        return None

    @abstractmethod
    def suite(self, seed: int, place: Path, say: Say) -> TaskSuite:
        """The models, made now or before an interrupt.

        Args:
            seed: of what is made here.
            place: a folder of their own for what is made, there or not.
            say: is told what begins.

        Raises:
            ConfigError, DataError, CheckpointError, RunError: there are none.
        """
