"""What Intel thinks of a platform's versions: TCB levels, TDX modules, quoting enclaves.

The rules are those of Intel's provisioning certification service (API version 4, "TCB info" and
"QE identity") as its quote verification library carries them out: the first level whose versions
are all reached gives the status, worsened by what module and quoting enclave have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hansa.attest.pck import Platform
from hansa.attest.policy import STATUSES
from hansa.attest.quote import EnclaveReport, TdReport
from hansa.attest.refusals import BadCollateral, LowTcb, WrongQuotingEnclave, WrongTdxModule
from hansa.attest.strict_json import Fields

REVOKED = "Revoked"
_COMPONENTS = 16
_WORSE = {
    "UpToDate": "OutOfDate",
    "SWHardeningNeeded": "OutOfDate",
    "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded",
}
_PARTS = ("UpToDate", "OutOfDate", REVOKED)


@dataclass(frozen=True)
class Level:
    """A status, and the known weaknesses that go with it."""

    status: str
    advisories: tuple[str, ...] = ()

    @classmethod
    def of(cls, fields: Fields) -> Level:
        """What an entry of ``tcbLevels`` says."""
        return cls(fields.text("tcbStatus"), fields.texts("advisoryIDs"))

    def with_part(self, part: Level) -> Level:
        """The status of a whole with a part (module, quoting enclave) that has its own.

        Raises:
            BadCollateral: a status that a part cannot have.
        """
        if part.status not in _PARTS:
            raise BadCollateral(f"a part of the platform has the unknown status {part.status!r}")
        if REVOKED in (part.status, self.status):
            status = REVOKED
        else:
            outdated = part.status == "OutOfDate"
            status = _WORSE.get(self.status, self.status) if outdated else self.status
        return Level(status, tuple(sorted({*self.advisories, *part.advisories})))


def worst(levels: Sequence[Level]) -> Level:
    """The worst of some, with the weaknesses of all."""
    ranks = (*STATUSES, REVOKED)
    status = max((each.status for each in levels), key=lambda each: _rank(ranks, each))
    return Level(status, tuple(sorted({name for each in levels for name in each.advisories})))


def _rank(ranks: Sequence[str], status: str) -> int:
    return ranks.index(status) if status in ranks else len(ranks)


def platform_level(info: Fields, platform: Platform, svn: bytes | None) -> Level:
    """The level of a processor, and of the TDX stack on it.

    Args:
        info: TCB info.
        platform: what the PCK certificate says.
        svn: the versions of the TDX stack, 16; None for SGX.

    Raises:
        BadCollateral: the info is of another product or kind.
        LowTcb: no level is reached.
    """
    wanted = "SGX" if svn is None else "TDX"
    if (info.text("id"), info.number("version")) != (wanted, 3):
        raise BadCollateral(f"tcb_info is not of {wanted}, version 3")
    if info.number("tcbType") != 0:
        raise BadCollateral("tcb_info of an unknown type")
    if info.octets("fmspc").hex().upper() != platform.fmspc:
        raise BadCollateral(f"tcb_info is of product {info.text('fmspc')}, not {platform.fmspc}")
    if info.octets("pceId").hex().upper() != platform.pceid:
        raise BadCollateral(f"tcb_info is of PCE {info.text('pceId')}, not {platform.pceid}")
    processor = None
    for each in info.groups("tcbLevels"):
        tcb = each.group("tcb")
        components = _svns(tcb, "sgxtcbcomponents")
        if not _reached(platform.components, components) or platform.pcesvn < tcb.number("pcesvn"):
            continue
        level = Level.of(each)
        processor = processor or level
        # Versions 0 and 1 are the module's, which has levels of its own from major version 1.
        first = 2 if svn is not None and svn[1] > 0 else 0
        if svn is None or _reached(svn[first:], _svns(tcb, "tdxtcbcomponents")[first:]):
            return Level(REVOKED, level.advisories) if processor.status == REVOKED else level
    raise LowTcb("no TCB level of Intel's list is reached")


def module_level(info: Fields, td: TdReport, svn: bytes) -> Level:
    """The level of a TDX module.

    Args:
        info: TCB info.
        td: who signed the module, and its attributes.
        svn: its versions, one of ``td.tcb_svns``.

    Raises:
        WrongTdxModule: it is none of those in the list, or older than all of them.
    """
    if svn[1] == 0:
        _check_module(info.group("tdxModule"), td)
        return Level("UpToDate")
    name = f"TDX_{svn[1]:02X}"
    for each in info.groups("tdxModuleIdentities"):
        if each.text("id").upper() == name:
            _check_module(each, td)
            level = _svn_level(each, svn[0])
            if level is None:
                raise WrongTdxModule(f"TDX module {name} of version {svn[0]} reaches no level")
            return level
    raise WrongTdxModule(f"TDX module {name} is not in Intel's list")


def _check_module(identity: Fields, td: TdReport) -> None:
    mask = identity.octets("attributesMask", 8)
    if td.mrsignerseam != identity.octets("mrsigner", 48):
        raise WrongTdxModule("a TDX module that Intel did not sign")
    if _masked(td.seam_attributes, mask) != _masked(identity.octets("attributes", 8), mask):
        raise WrongTdxModule("a TDX module with other attributes than Intel's")


def enclave_level(identity: Fields, report: EnclaveReport, tdx: bool) -> Level:
    """The level of the quoting enclave.

    Raises:
        BadCollateral: the identity is of another kind.
        WrongQuotingEnclave: it is another enclave, or older than all levels.
    """
    wanted = "TD_QE" if tdx else "QE"
    if (identity.text("id"), identity.number("version")) != (wanted, 2):
        raise BadCollateral(f"qe_identity is not of {wanted}, version 2")
    mask = int.from_bytes(identity.octets("miscselectMask", 4), "big")
    misc = int.from_bytes(identity.octets("miscselect", 4), "big")
    attributes = identity.octets("attributesMask", 16)
    same = {
        "MISCSELECT": report.misc_select & mask == misc & mask,
        "attributes": _masked(report.attributes, attributes)
        == _masked(identity.octets("attributes", 16), attributes),
        "MRSIGNER": report.mrsigner == identity.octets("mrsigner", 32),
        "product": report.isv_prod_id == identity.number("isvprodid"),
    }
    if other := [name for name, equal in same.items() if not equal]:
        raise WrongQuotingEnclave(f"a quoting enclave with another {', '.join(other)}")
    level = _svn_level(identity, report.isv_svn)
    if level is None:
        raise WrongQuotingEnclave(f"a quoting enclave of version {report.isv_svn}: none so old")
    return level


def _svn_level(identity: Fields, svn: int) -> Level | None:
    for each in identity.groups("tcbLevels"):
        if svn >= each.group("tcb").number("isvsvn"):
            return Level.of(each)
    return None


def _svns(tcb: Fields, name: str) -> list[int]:
    values = [each.number("svn", 255) for each in tcb.groups(name)]
    if len(values) != _COMPONENTS:
        raise BadCollateral(f"tcb_info: {name} has {len(values)} entries: {_COMPONENTS}")
    return values


def _reached(own: tuple[int, ...] | bytes, wanted: list[int]) -> bool:
    return all(a >= b for a, b in zip(own, wanted, strict=True))


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(a & b for a, b in zip(value, mask, strict=True))
