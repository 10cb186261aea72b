"""Whether a confidential virtual machine measures the Python code that runs in it at all.

A launch digest covers firmware, and with measured direct boot kernel, initrd and command line; it
does not cover files. They are covered if the root file system is verified against a hash that
stands in the measured command line (dm-verity), or if the code was measured into RTMR3 of a TD.
Whoever checks from inside only keeps an honest owner from a mistake; what convinces others is that
their policy names a measurement of such an image.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

from hansa.attest.attesters.attester import NoEvidence, read_whole
from hansa.attest.code import code_digest

Covered = Literal["dm-verity", "rtmr3"]
CMDLINE = Path("/proc/cmdline")
RTMR3 = Path("/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384")
_VERITY = re.compile(r"(?:^|\s)(?:roothash|usrhash|verity\.roothash)=[0-9a-fA-F]{64,128}(?=\s|$)")
_DM_CREATE = re.compile(r"dm-mod\.create=\S*\"?[^\"]*\bverity\b[^\"]*[0-9a-fA-F]{64}")
_REGISTER = 48  # bytes


def check_covered(how: Covered) -> None:
    """Refuse a machine whose evidence would say nothing of the code.

    Raises:
        NoEvidence: says what is missing.
    """
    if how == "rtmr3":
        extend(RTMR3)
        return
    text = read_whole(CMDLINE, "kernel command line", 1 << 16).decode(errors="replace")
    if not (_VERITY.search(text) or _DM_CREATE.search(text)):
        raise NoEvidence(
            "the kernel's command line names no dm-verity root hash (roothash=...), so evidence of "
            "this machine says nothing of the code that runs in it; boot a verified image, or on "
            "TDX (Linux 6.16 and later) covered: rtmr3"
        )


def extend(rtmr3: Path) -> None:
    """Measure the installed package into RTMR3, once.

    Raises:
        NoEvidence: there is no such register, or it holds something else already.
    """
    before = read_whole(rtmr3, "register RTMR3", _REGISTER)
    ours = hashlib.sha384(bytes(_REGISTER) + code_digest()).digest()
    if before == ours:
        return
    if before != bytes(_REGISTER):
        raise NoEvidence("RTMR3 was extended by something else, so nobody can tell what is in it")
    try:
        with rtmr3.open("r+b", buffering=0) as file:
            file.write(code_digest())
    except OSError as error:
        raise NoEvidence(f"{rtmr3}: {error.strerror or error}") from None
