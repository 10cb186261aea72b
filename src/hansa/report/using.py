"""What one does with a run from Python: its figures as a chart, its model, what that predicts."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.report.which import Which

if TYPE_CHECKING:
    import altair

    from hansa.report.predictions import Predictions


class Usable:
    """The part of :class:`hansa.RunFolder` that looks at a run and uses what it made."""

    def plot(self, metric: str | None = None, x: str = "round") -> altair.LayerChart:
        """A chart of one metric, which a notebook shows and ``.save("x.svg")`` writes.

        Args:
            metric: a name in :meth:`metrics`; None: the one by which the run is judged.
            x: ``round``, ``bytes`` (sent by then), ``time``, ``modelled_time``, ``device_time``
                (seconds) or ``energy`` (joules).

        Raises:
            ConfigError: it was not measured, or nothing was counted along that axis.
        """
        return product_of(self).plot(self, metric, x)

    def model(self, node: int | None = None, average: bool = False, **which: Any) -> Any:
        """What the run made, ready to use: a ``torch.nn.Module`` in evaluation mode.

        It reads inputs as the run's data gave them (scaled; images channels first); a merge
        without a ``task`` is all its models, a pool of adapters what answers texts.

        Args:
            node: whose, where every node has its own.
            average: the average of all nodes' models.
            which: what other runs need: ``task``, ``size``, ``rule``, ``trust``
                (``hansa.report.which.Which``).

        Raises:
            ConfigError: the run has not finished, there are several models and none is named, or
                the run made none.
        """
        product, chosen = _product(self, node, average, which)
        return product.model(self, chosen)

    def predict(
        self, data: Any, node: int | None = None, average: bool = False, **which: Any
    ) -> Predictions:
        """What the run's model says of examples, and how good that is where they have labels.

        Args:
            data: a path (a table by the names of its columns, an array, images, texts), a data
                frame of polars or pandas, an array [m, ...] as data are stored (images channels
                last, not scaled), or a list of texts.
            node, average, which: as for :meth:`model`.

        Raises:
            ConfigError, DataError: as :meth:`model`; or a column is missing, a word is new, a
                shape is another; names it.
        """
        product, chosen = _product(self, node, average, which)
        return product.answers(self, data, chosen)

    def export(
        self,
        out: str | Path,
        node: int | None = None,
        average: bool = False,
        merged: bool = False,
        card: bool = False,
        **which: Any,
    ) -> Path:
        """Write the model for those who do not have hansa (:func:`hansa.export`)."""
        product, chosen = _product(self, node, average, which)
        return product.export(self, Path(out).expanduser(), chosen, merged, card)

    def trained(self) -> Any:
        """The run opened whole: its job with the data, its block with every node's state.

        Returns:
            A :class:`hansa.experiment.trained.TrainedRun`.

        Raises:
            CheckpointError: its checkpoint is damaged.
            ConfigError: it trained nothing, has not finished, or its data are others now.
        """
        return product_of(self).trained(self)

    def _repr_html_(self) -> str:
        return product_of(self).shown(self)


def product_of(run: Any) -> Any:
    """What knows the runs of a run's verb, a :class:`hansa.report.product.Product`.

    Raises:
        ConfigError: nobody does.
    """
    for kind in catalogue("product").values():
        product: Any = kind()
        if product.claim(run.config):
            return product
    problem = f"is a run of {run.config.get('verb')}, and nothing says what such runs make"
    raise ConfigError("run", str(run.path), problem, "name its package among the plugins")


def _product(run: Any, node: int | None, average: bool, which: dict[str, Any]) -> tuple[Any, Which]:
    """(what knows the runs of this verb, which of its models is meant)."""
    known = [one.name for one in fields(Which)]
    if strange := [name for name in which if name not in known]:
        name = strange[0]
        raise ConfigError(name, which[name], "is unknown", f"one of {', '.join(known)}")
    return product_of(run), Which(node=node, average=average, **which)
