"""Evidence that was recorded once, for tests of those who verify: it is never about this session,
so a channel refuses it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from hansa.attest.attesters.attester import Attester, check_report_data, read_whole
from hansa.attest.evidence import Evidence, Tee
from hansa.base.component import register


@register("replay")
class Replay(Attester):
    """Recorded evidence, which every channel refuses: for tests of verifiers."""

    file: Path = Field(description="a container of evidence")

    @property
    def tee(self) -> Tee:
        return self._recorded().tee

    def evidence(self, report_data: bytes) -> Evidence:
        """The recording, whatever it was to be about."""
        check_report_data(report_data)
        return self._recorded()

    def _recorded(self) -> Evidence:
        return Evidence.from_bytes(read_whole(self.file, "recording"))
