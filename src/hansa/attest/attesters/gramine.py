"""SGX through Gramine: pseudo-files that an enclave's process finds under /dev/attestation.

Gramine, "Attestation and Secret Provisioning". What is measured (MRENCLAVE) is the manifest with
every trusted file, so a manifest that trusts the wheels and the script measures all that runs.
"""

from __future__ import annotations

import threading
from pathlib import Path

from pydantic import Field

from hansa.attest.attesters.attester import (
    REPORT_DATA,
    HardwareAttester,
    NoEvidence,
    NoSealing,
    check_about,
    check_report_data,
    read_whole,
)
from hansa.attest.evidence import Evidence, Tee
from hansa.base.component import register

_QUOTE_DATA = 48 + 320
"""Where in an SGX quote the report's data are: behind the header, in the body."""
_KEY_BYTES = 16
_one_at_a_time = threading.Lock()  # the files are one state of the whole process


@register("gramine")
class Gramine(HardwareAttester):
    """An SGX enclave under Gramine with DCAP."""

    folder: Path = Field(Path("/dev/attestation"), description="where Gramine's files are")

    @property
    def tee(self) -> Tee:
        kind = read_whole(self.folder / "attestation_type", "attestation type", 64)
        word = kind.decode(errors="replace").strip().strip("\0")
        if word != "dcap":
            problem = "gramine-direct runs outside of any enclave" if word == "none" else "not dcap"
            raise NoEvidence(f"Gramine's attestation type is {word!r}: {problem}")
        return "sgx"

    def evidence(self, report_data: bytes) -> Evidence:
        check_report_data(report_data)
        tee = self.tee
        with _one_at_a_time:
            path = self.folder / "user_report_data"
            try:
                with path.open("r+b", buffering=0) as file:
                    written = file.write(report_data)
            except OSError as error:
                raise NoEvidence(f"{path}: {error.strerror or error}") from None
            if written != REPORT_DATA:
                raise NoEvidence(f"{path}: took {written} of {REPORT_DATA} bytes")
            quote = read_whole(self.folder / "quote", "quote")
        check_about(quote, _QUOTE_DATA, report_data, "Gramine's quote")
        return self.completed(tee, quote)

    def sealing_key(self) -> bytes:
        """The key of this enclave's measurement on this chip (MRENCLAVE policy)."""
        try:
            key = read_whole(self.folder / "keys" / "_sgx_mrenclave", "sealing key", _KEY_BYTES)
        except NoEvidence as error:
            raise NoSealing(str(error)) from None
        if len(key) != _KEY_BYTES:
            raise NoSealing(f"Gramine's sealing key has {len(key)} bytes, not {_KEY_BYTES}")
        return key
