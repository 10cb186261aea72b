"""That a run of private inference leaves no model of its own."""

from __future__ import annotations

from typing import ClassVar

from hansa.base.component import register
from hansa.report.product import Product


@register("private")
class NoModelOfPrivate(Product):
    """Private inference asks a model that its owner keeps."""

    command: ClassVar[str] = "infer private demo"
    why: ClassVar[str] = "asked a model that its owner keeps and made none"
    instead: ClassVar[str] = (
        "hansa infer private client asks it; or take the run that trained the model"
    )
