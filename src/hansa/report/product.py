"""What runs of a verb have made: how that is opened, asked and handed out.

Each verb brings its own. A verb of one's own::

    @register("auction")
    class AuctionModel(Product):
        def answers(self, run, data, which): ...

It is found by the verb of the run's settings, as pages are (entry point ``hansa.product``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.report.predictions import Predictions
from hansa.report.which import Which

if TYPE_CHECKING:
    from hansa.report.folder import RunFolder


class Product(Component, kind="product"):
    """What a run of a verb came to. Without methods of its own it refuses, with the reason."""

    command: ClassVar[str] = ""
    """The verb's command where it is not its name: ``combine merge``."""
    why: ClassVar[str] = "makes no model"
    """Why there is nothing to ask or to hand out, after the command."""
    instead: ClassVar[str] = "a run that trained a model"
    """What to do instead; ``{run}`` stands for the folder."""

    marker: ClassVar[str] = ""
    """The file in a folder of :meth:`export` by which it is known; none: it has no form of its
    own."""

    def claim(self, config: Mapping[str, Any]) -> bool:
        """Whether a run with these settings is of this verb."""
        return bool(config.get("verb") == type(self).name)

    def model(self, run: RunFolder, which: Which) -> Any:
        """What the run made, ready to use: a network in evaluation mode, or what answers.

        Raises:
            ConfigError: the run has not finished, or it is not clear which of its models.
        """
        raise self.refusal(run)

    def answers(self, run: RunFolder, data: Any, which: Which) -> Predictions:
        """What it says of examples that somebody brings.

        Raises:
            ConfigError, DataError: as :meth:`model`, or the examples are not what it takes.
        """
        raise self.refusal(run)

    def exported_answers(self, place: Path, data: Any, which: Which) -> Predictions:
        """:meth:`answers` of a folder that :meth:`export` wrote, one with the ``marker`` in it."""
        raise NotImplementedError

    def export(
        self, run: RunFolder, out: Path, which: Which, merged: bool = False, card: bool = False
    ) -> Path:
        """Write it for those who do not have hansa; returns the file with the facts.

        Args:
            out: a new file, whose ending says which form, or a new folder.
            merged: adapters are added to what they adapt.
            card: write a model card beside a file; a folder has one.

        Raises:
            ConfigError: as :meth:`model`, or there is no such form of it.
        """
        raise self.refusal(run)

    def trained(self, run: RunFolder) -> Any:
        """The run opened whole, with its data and every node's state.

        Raises:
            ConfigError: it trained nothing in such a form.
        """
        raise self.refusal(run)

    def plot(self, run: RunFolder, metric: str | None, x: str) -> Any:
        """A chart of one metric (:meth:`hansa.RunFolder.plot`)."""
        from hansa.report.plotting import plot

        return plot(run, metric, x)

    def shown(self, run: RunFolder) -> str:
        """The run as HTML for a notebook."""
        from hansa.report.notebook import card

        return card(run)

    def refusal(self, run: RunFolder) -> ConfigError:
        """That there is nothing of the kind, and what to do instead."""
        command = self.command or type(self).name
        problem = f"is a run of hansa {command}, which {self.why}"
        return ConfigError("run", str(run.path), problem, self.instead.format(run=run.path))
