"""Imports run one way, file by file: no arrow up, no circle, no verb in another's room."""

from __future__ import annotations

from pathlib import Path

import hansa

SOURCE = Path(hansa.__file__).parent
GROUND = ("codec", "data", "ensemble", "metrics", "models", "report", "topology")
VERBS = ("learn", "recommend", "combine", "route", "infer", "forget", "audit")
BELOW = {"base", *GROUND, "engine", "attest", "experiment"}
ALLOWED: dict[str, set[str]] = {
    "base": set(),
    **{room: {"base"} for room in GROUND},
    "engine": {"base", *GROUND},
    "attest": {"base", *GROUND, "engine"},
    "experiment": BELOW,
    **dict.fromkeys(VERBS, BELOW),
    "interop": BELOW | set(VERBS),
    "cli": BELOW | set(VERBS) | {"interop"},
}
"""What each room may import beside itself and the names of the package."""
TO_CUT: set[tuple[str, str]] = set()
"""Arrows between verbs that are still there: this may only shrink."""
