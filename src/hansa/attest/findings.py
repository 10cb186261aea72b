"""What a verifier collects on its way: facts, every reason to refuse, and how long it all holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hansa.attest.evidence import Tee
from hansa.attest.refusals import AttestationError
from hansa.attest.verdict import Verdict


@dataclass
class Findings:
    """Facts and problems of one piece of evidence; the attributes are those of a verdict."""

    platform: Tee
    product: str = ""
    measurement: str = ""
    measured: Mapping[str, str | int] = field(default_factory=dict)
    tcb: Mapping[str, int | str] = field(default_factory=dict)
    status: str = ""
    chip_id: str = ""
    advisories: tuple[str, ...] = ()
    report_data: bytes = b""
    until: datetime | None = None
    problems: list[AttestationError] = field(default_factory=list)

    def note(self, problem: AttestationError) -> None:
        """Take down a reason to refuse, once."""
        if all((type(each), str(each)) != (type(problem), str(problem)) for each in self.problems):
            self.problems.append(problem)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Take down what is raised within, and go on behind it."""
        try:
            yield
        except AttestationError as problem:
            self.note(problem)

    def lasts_until(self, moment: datetime) -> None:
        """Take down when something ends on which this rests."""
        self.until = moment if self.until is None else min(self.until, moment)

    def verdict(self) -> Verdict:
        """What comes of it."""
        return Verdict(
            "refused" if self.problems else "accepted",
            self.platform, self.product, self.measurement, self.measured, self.tcb, self.status,
            self.chip_id, self.advisories, self.report_data, self.until,
            tuple((each.name, str(each)) for each in self.problems),
        )  # fmt: skip
