"""The model of a run that learned and forgot, as it is now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.component import register
from hansa.report.product import Product
from hansa.report.using import product_of
from hansa.report.which import Which

if TYPE_CHECKING:
    from hansa.report.folder import RunFolder
    from hansa.report.predictions import Predictions


@register("forget")
class ForgetfulModel(Product):
    """That of the run in its folder ``trained``, after the request."""

    def model(self, run: RunFolder, which: Which) -> Any:
        inner = _trained(run)
        return product_of(inner).model(inner, which)

    def answers(self, run: RunFolder, data: Any, which: Which) -> Predictions:
        inner = _trained(run)
        return product_of(inner).answers(inner, data, which)

    def export(
        self, run: RunFolder, out: Path, which: Which, merged: bool = False, card: bool = False
    ) -> Path:
        inner = _trained(run)
        return product_of(inner).export(inner, out, which, merged, card)

    def trained(self, run: RunFolder) -> Any:
        inner = _trained(run)
        return product_of(inner).trained(inner)


def _trained(run: RunFolder) -> RunFolder:
    return type(run).open(run.path / "trained")
