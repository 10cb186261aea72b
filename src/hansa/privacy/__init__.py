"""Differential privacy: what is clipped, where noise comes in, and what that guarantees.

A way of protecting is a component of kind ``privacy`` (:class:`Privacy`); the accountant is a
library's (:mod:`hansa.privacy.accounting`).
"""

from hansa.base.lazy import on_demand

__getattr__ = on_demand(__name__)
