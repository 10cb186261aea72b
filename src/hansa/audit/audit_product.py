"""That an audit leaves no model."""

from __future__ import annotations

from typing import ClassVar

from hansa.base.component import register
from hansa.report.product import Product


@register("audit")
class NoModelOfAudit(Product):
    """Audits ask a model of somebody else, which is not theirs to predict with or to export."""

    why: ClassVar[str] = "asked a model of somebody else and made none"
    instead: ClassVar[str] = "ask the audited platform itself; hansa report {run} shows the audit"
