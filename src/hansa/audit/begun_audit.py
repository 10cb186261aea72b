"""A first file of an audit of one's own table: who decided what about whom stands in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hansa.audit.black_box import word
from hansa.base.errors import ConfigError
from hansa.data.labels import FEW

if TYPE_CHECKING:
    from hansa.experiment.own_data import OwnData

_BUDGET = 300
_SHARE = 0.5
"""Of the rows, that an agent may ask about: one who may ask about all has nothing to estimate."""


def begun_on(settings: dict[str, Any], own: OwnData) -> dict[str, Any]:
    """Settings that audit the decisions in a table, an agent for each protected column.

    Which decision is a yes is not guessed, unless decisions are 0 and 1, or false and true.

    Raises:
        ConfigError: nobody said which column decides, which are protected, or which decision is a
            yes; names the columns or the decisions.
    """
    decision = own.column("label", own.label, f"which column of {own.path} holds the decisions?")
    if not own.groups:
        fix = f"--group COLUMN, of {', '.join(n for n in own.frame.columns if n != decision)}"
        problem = "which column says who is protected, such as sex or age?"
        raise ConfigError("group", None, problem, fix)
    for name in own.groups:
        own.column("group", name, "")
        if name == decision:
            raise ConfigError("group", name, "is the column of the decisions", "another column")
    attributes = {name: _rule(own, name) for name in own.groups}
    started = {
        **settings,
        "population": {"name": "table", "path": own.written, "attributes": attributes},
        "box": {"name": "table", "path": own.written, "decision": decision, **_yes(own, decision)},
        "attributes": [*own.groups],
        "budget": max(1, min(_BUDGET, int(_SHARE * len(own.frame)))),
    }
    if len(own.groups) < 2:
        started.pop("cross_check", None)  # there is nobody to compare answers with
    return started


def _rule(own: OwnData, name: str) -> str | None:
    """None where each value is a group; of a measurement, who is above the median."""
    column = own.frame[name].drop_nulls()
    if not column.dtype.is_numeric() or column.n_unique() <= FEW:
        return None
    rule = f"> {word(column.median())}"
    own.remarks.append(f"groups of {name!r} are those {rule}, its median, and the others")
    return rule


def _yes(own: OwnData, decision: str) -> dict[str, Any]:
    column = own.frame[decision].drop_nulls()
    kinds = sorted({said for value in column.to_list() if (said := word(value)) is not None})
    if len(kinds) > FEW:
        problem = f"holds {len(kinds)} different values, and decisions are a few"
        raise ConfigError("label", decision, problem, "the column of the decisions")
    if {*kinds} <= {"0", "1"} or {*kinds} <= {"false", "true"}:
        return {"positive": 1 if "1" in kinds else True}
    if not own.says("box.positive"):
        fix = f"--set box.positive=DECISION, one of {', '.join(kinds)}"
        raise ConfigError("box.positive", None, "which decision counts as yes?", fix)
    return {}
