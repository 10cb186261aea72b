"""What is asked of a run, or of a model that was exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.report import RunFolder
from hansa.report.folder import is_run
from hansa.report.product import Product
from hansa.report.using import product_of
from hansa.report.which import Which

if TYPE_CHECKING:
    from hansa.report.predictions import Predictions


def predicted(source: Path, data: Any, which: Which) -> Predictions:
    """What a model says of examples.

    Args:
        source: a run folder; or a file or folder of ``hansa export``.
        data: what :func:`hansa.data.brought.read` reads.

    Raises:
        CheckpointError: the run or the model is damaged.
        ConfigError, DataError: it made no model, it is not clear which, or the data are not what
            it takes.
    """
    if is_run(source):
        run = RunFolder.open(source)
        return product_of(run).answers(run, data, which)
    if source.suffix == ".onnx":
        which.only("one model")
        from hansa.experiment.onnx_graph import asked

        return asked(source, data)
    if not source.exists():
        raise _absent(source)
    from hansa.experiment.export import FACTS, open_export
    from hansa.experiment.predicting import predictions

    if source.is_file() or (source / FACTS).is_file():
        which.only("one model")
        exported = open_export(source, which.trust)
        return predictions(exported.network, exported.signature, data)
    for kind in catalogue("product").values():
        product = kind()
        assert isinstance(product, Product)
        if product.marker and (source / product.marker).is_file():
            return product.exported_answers(source, data, which)
    if source.is_dir():
        RunFolder.open(source)  # says what is wrong with it
    raise _absent(source)


def _absent(source: Path) -> ConfigError:
    problem, fix = "there is no such run or model", "a run folder, or what hansa export wrote"
    return ConfigError("run", str(source), problem, fix)
