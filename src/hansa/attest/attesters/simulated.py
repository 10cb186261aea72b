"""An enclave that is none: evidence from a key in this process. It protects nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from hansa.attest.attesters.attester import Attester, NoEvidence, check_report_data
from hansa.attest.code import code_digest
from hansa.attest.evidence import Evidence, Tee
from hansa.attest.simulation import SimulatedMember, SimulatedRoot, check_allowed, measured
from hansa.base.component import register


@register("simulated")
class SimulatedAttester(Attester):
    """Evidence from a key in this process, for tests: no hardware stands behind it."""

    is_hardware: ClassVar[bool] = False
    root: Path | None = Field(
        None, description="the file of a root that all sites share (hansa attest root); null: who "
        "starts the run makes one for it"
    )  # fmt: skip
    _member: SimulatedMember | None = PrivateAttr(None)
    _config: bytes = PrivateAttr(bytes(32))

    @property
    def tee(self) -> Tee:
        return "simulated"

    @property
    def member(self) -> SimulatedMember:
        """What it simulates with.

        Raises:
            NoEvidence: nobody has told it.
        """
        if self._member is None:
            raise NoEvidence("nobody has made a root for this run: attester.root names one")
        return self._member

    def told(self, member: Mapping[str, Any]) -> SimulatedAttester:
        """With the key that a run's root has certified, or a new one of the root in the file."""
        check_allowed("attester")
        made = self.model_copy()
        if self.root is not None:
            made._member = SimulatedRoot.load(self.root, "attester.root").member()
        elif "simulated" in member:
            made._member = SimulatedMember.parse(member["simulated"])
        made._config = bytes(member.get("config", bytes(32)))
        return made

    def evidence(self, report_data: bytes) -> Evidence:
        check_report_data(report_data)
        check_allowed("attester")
        measurement = measured(code_digest(), self._config)
        return Evidence("simulated", self.member.report(measurement, report_data))

    def sealing_key(self) -> bytes:
        """A key that every member of the run has: it hides nothing from who has the run's root."""
        return self.member.sealing
