"""That a run of attacks leaves no model for use."""

from __future__ import annotations

from typing import ClassVar

from hansa.base.component import register
from hansa.report.product import Product


@register("redteam")
class NoModelOfRedteam(Product):
    """Attacks on private inference try to copy a model; what they get is a measurement."""

    command: ClassVar[str] = "infer redteam"
    why: ClassVar[str] = "attacked a model and keeps none"
    instead: ClassVar[str] = "the run that trained the model; hansa report {run} shows the attacks"
