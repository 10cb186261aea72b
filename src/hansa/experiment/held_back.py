"""What clients hold back of their examples, to measure models where those are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.data.dealing.holdback import hold_back_each
from hansa.engine import EvaluateSettings


def hold_back_parts(
    evaluate: EvaluateSettings, parts: Mapping[int, np.ndarray], streams: Streams
) -> tuple[Mapping[int, np.ndarray], dict[int, np.ndarray]]:
    """(what each client trains on, what it keeps back to validate models), by its id.

    Raises:
        ConfigError: models are to be measured on what nobody holds back.
    """
    share = evaluate.local_validation
    if evaluate.asks_clients and not share:
        field = "evaluate.per_client" if evaluate.per_client else "evaluate.own"
        problem = "there are no examples that clients hold back to be measured on"
        fix = "set evaluate.local_validation, such as 0.1"
        raise ConfigError(field, True if evaluate.per_client else None, problem, fix)
    if not share:
        return parts, {}
    ids = list(parts)
    kept, held = hold_back_each(
        list(parts.values()), streams, share, nodes=ids, purpose="local validation"
    )
    return dict(zip(ids, kept, strict=True)), dict(zip(ids, held, strict=True))
