"""A network as it is handed out, with all that must be known to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from hansa.data.signature import Signature
    from hansa.models import Model


@dataclass(frozen=True)
class Deliverable:
    """One network of a run, with all that must be known to use it.

    Attributes:
        module: to evaluate; it reads inputs as ``signature.prepared`` gives them.
        facts: what else there is to say of it, plain data.
        form: what builds such a network; None: nothing of hansa's does.
    """

    module: nn.Module
    signature: Signature
    facts: Mapping[str, Any] = field(default_factory=dict)
    form: Model | None = None
