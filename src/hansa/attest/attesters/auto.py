"""Whatever trusted hardware this process runs on; never a simulation of it."""

from __future__ import annotations

from functools import cached_property

from hansa.attest.attesters.attester import Attester, NoEvidence
from hansa.attest.attesters.gramine import Gramine
from hansa.attest.attesters.sev_guest import SevGuest
from hansa.attest.attesters.tsm import Tsm
from hansa.attest.evidence import Evidence, Tee
from hansa.base.component import register

_SIMULATED = "or, for tests, attester: simulated with a policy that says simulated: true"


@register("auto")
class Auto(Attester):
    """The first of gramine, tsm and sev_guest whose files are there."""

    @cached_property
    def _found(self) -> Attester:
        gramine, tsm, device = Gramine(), Tsm(), SevGuest()
        for attester, path in (
            (gramine, gramine.folder), (tsm, tsm.folder), (device, device.device)
        ):  # fmt: skip
            if path.exists():
                return attester
        looked = f"{gramine.folder}, {tsm.folder}, {device.device}"
        raise NoEvidence(f"no trusted hardware here: none of {looked}; run in one, {_SIMULATED}")

    @property
    def tee(self) -> Tee:
        return self._found.tee

    def evidence(self, report_data: bytes) -> Evidence:
        return self._found.evidence(report_data)

    def sealing_key(self) -> bytes:
        return self._found.sealing_key()
