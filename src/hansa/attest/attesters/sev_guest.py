"""SEV-SNP through ioctls of /dev/sev-guest, for kernels without configfs-tsm.

Linux, include/uapi/linux/sev-guest.h; AMD, "SEV Secure Nested Paging Firmware ABI Specification"
(56860), MSG_REPORT_REQ, MSG_KEY_REQ.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from hansa.attest.attesters.attester import (
    HardwareAttester,
    NoEvidence,
    NoSealing,
    check_about,
    check_report_data,
)
from hansa.attest.attesters.covering import check_covered
from hansa.attest.evidence import Evidence, Tee
from hansa.base.component import register

_CALL = struct.Struct("<B7xQQQ")
"""snp_guest_request_ioctl: message version, addresses of request and response, error."""
_REPORT = struct.Struct("<64sI28x")
_EXTENDED = struct.Struct("<96sQI4x")
_KEY = struct.Struct("<IIQIIQ")
_FIELDS = (1 << 3) | (1 << 0)  # measurement and guest policy go into a derived key
_ANSWER, _REPORT_AT, _REPORT_BYTES = 4000, 32, 1184
_KEY_ANSWER, _KEY_AT, _KEY_BYTES = 64, 32, 32
_CERTIFICATES = 1 << 14  # bytes that they may take: the driver takes no more
_ENTRY = struct.Struct("<16sII")  # of their table: which it is, where, how long


def request(number: int) -> int:
    """_IOWR('S', number, struct snp_guest_request_ioctl)."""
    return (3 << 30) | (_CALL.size << 16) | (ord("S") << 8) | number


GET_REPORT, GET_DERIVED_KEY, GET_EXT_REPORT = map(request, range(3))


@register("sev_guest")
class SevGuest(HardwareAttester):
    """A confidential virtual machine (SEV-SNP) through /dev/sev-guest."""

    device: Path = Field(Path("/dev/sev-guest"), description="the device")
    vmpl: int = Field(0, ge=0, le=3, description="VMPL that the report is asked for")
    ioctl: ClassVar[Any] = staticmethod(fcntl.ioctl)

    @property
    def tee(self) -> Tee:
        if not self.device.exists():
            raise NoEvidence(f"{self.device}: there is no such device")
        return "snp"

    def evidence(self, report_data: bytes) -> Evidence:
        check_report_data(report_data)
        tee = self.tee
        check_covered("dm-verity")
        plain = _REPORT.pack(report_data, self.vmpl)
        room = ctypes.create_string_buffer(_CERTIFICATES)
        extended = _EXTENDED.pack(plain, ctypes.addressof(room), _CERTIFICATES)
        try:
            answer = self._call(GET_EXT_REPORT, extended, _ANSWER)
            certificates = table(room.raw)
        except NoEvidence:  # the host hands over no certificates, or too many
            answer, certificates = self._call(GET_REPORT, plain, _ANSWER), b""
        status, size = struct.unpack_from("<II", answer)
        if status or size != _REPORT_BYTES:
            raise NoEvidence(f"{self.device}: status {status:#x} and a report of {size} bytes")
        report = answer[_REPORT_AT : _REPORT_AT + _REPORT_BYTES]
        check_about(report, 0x50, report_data, "the report")
        return self.completed(tee, report, certificates)

    def sealing_key(self) -> bytes:
        """A key derived from this chip's VCEK, the guest's measurement and its policy."""
        asked = _KEY.pack(0, 0, _FIELDS, self.vmpl, 0, 0)
        try:
            answer = self._call(GET_DERIVED_KEY, asked, _KEY_ANSWER)
        except NoEvidence as error:
            raise NoSealing(str(error)) from None
        status = int.from_bytes(answer[:4], "little")
        if status:
            raise NoSealing(f"{self.device}: a key is refused, status {status:#x}")
        return answer[_KEY_AT : _KEY_AT + _KEY_BYTES]

    def _call(self, number: int, asked: bytes, size: int) -> bytes:
        question = ctypes.create_string_buffer(asked, len(asked))
        answer = ctypes.create_string_buffer(size)
        call = bytearray(_CALL.pack(1, ctypes.addressof(question), ctypes.addressof(answer), 0))
        try:
            handle = os.open(self.device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise NoEvidence(f"{self.device}: {error.strerror or error}") from None
        try:
            self.ioctl(handle, number, call)
        except OSError as error:
            told = _CALL.unpack(call)[3]
            busy = " (the host asks for patience)" if error.errno == errno.EAGAIN else ""
            raise NoEvidence(
                f"{self.device}: {error.strerror or error}{busy}, firmware says {told:#x}"
            ) from None
        finally:
            os.close(handle)
        return answer.raw


def table(room: bytes) -> bytes:
    """The certificate table at the beginning of a buffer, without what is behind it."""
    end, at = 0, 0
    while at + _ENTRY.size <= len(room):
        which, offset, length = _ENTRY.unpack_from(room, at)
        at += _ENTRY.size
        if which == bytes(16):
            return room[: max(end, at)] if end else b""
        end = max(end, offset + length)
    return b""
