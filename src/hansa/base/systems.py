"""The published systems that hansa holds, and what of their papers' claims was measured.

``systems.yaml`` says what each is; ``claims.json`` is made of tables of results by
``python benchmarks/claims.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hansa.base.yamltext import load_yaml

VERDICTS = ("yes", "differs", "NO", "not measured")
"""It holds here; only its direction does, or less of it; it does not; nobody has looked."""


@dataclass(frozen=True)
class Claim:
    """What a paper claims, and what of it was seen here.

    Attributes:
        measured: the figures, or what stands in the way of them.
        verdict: one of :data:`VERDICTS`.
        table, command, commit: the page in ``benchmarks/results``, what makes it anew, and the
            state of the code that made it; empty where nothing was measured.
    """

    system: str
    published: str
    measured: str
    verdict: str
    table: str
    command: str
    commit: str


@dataclass(frozen=True)
class System:
    """A published system.

    Attributes:
        command: runs it; example: its run file, of ``examples/``; docs: its page, of ``docs/``.
        beyond, behind: what hansa does that the paper does not, and the other way round.
    """

    name: str
    authors: str
    title: str
    venue: str
    year: int
    url: str
    verb: str
    command: str
    example: str
    docs: str
    does: str
    beyond: tuple[str, ...]
    behind: tuple[str, ...]
    claims: tuple[Claim, ...]

    @property
    def tally(self) -> dict[str, int]:
        """How many of its claims have which verdict, those that none has left out."""
        count = {v: sum(claim.verdict == v for claim in self.claims) for v in VERDICTS}
        return {verdict: n for verdict, n in count.items() if n}


@cache
def systems() -> tuple[System, ...]:
    """All of them, as the README lists them."""
    here = Path(__file__).parent
    claims = [Claim(**one) for one in json.loads((here / "claims.json").read_text())]
    return tuple(
        System(
            **{**one, "beyond": tuple(one["beyond"]), "behind": tuple(one["behind"])},
            claims=tuple(claim for claim in claims if claim.system == one["name"]),
        )
        for one in load_yaml((here / "systems.yaml").read_text())
    )
