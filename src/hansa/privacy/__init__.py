"""Differential privacy: what is clipped, where noise comes in, and what that guarantees.

A way of protecting is a component of kind ``privacy`` (:class:`Privacy`); the accountant is a
library's (:mod:`hansa.privacy.accounting`).
"""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.privacy.privacy import Privacy

__all__ = ["Privacy"]

__getattr__ = front(__name__)
