"""Routing: many adapters on one model; each query gets the mixture that answers it (LORAUTER)."""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.route.answering import AnsweringModel, Mixture, Query
    from hansa.route.routing import Routed, Router
    from hansa.route.routing_index import RoutingIndex
    from hansa.route.sets import Example, RoutedTask
    from hansa.route.slab import AdapterSlab

__getattr__ = front(__name__)

__all__ = [
    "AdapterSlab",
    "AnsweringModel",
    "Example",
    "Mixture",
    "Query",
    "Routed",
    "RoutedTask",
    "Router",
    "RoutingIndex",
]
