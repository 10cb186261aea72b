"""Vendors of our own: roots, processors, reports, quotes and lists, where real data are not."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives import hashes

from hansa.attest.certificates import parse
from hansa.attest.evidence import Evidence
from hansa.attest.policy import Policy
from hansa.attest.roots import Roots

from .certifying import (
    CERT_SIGN,
    Issue,
    basic,
    der,
    integer,
    octets,
    oid,
    p256,
    p384,
    pem,
    revocations,
    rsa_key,
    seq,
    usage,
)

REPORT_DATA = bytes(range(64))


_AMD = "1.3.6.1.4.1.3704.1."
_CPU = {"Milan": (0x19, 0x01), "Genoa": (0x19, 0x11), "Turin": (0x1A, 0x02)}
CHIP = bytes(range(2, 66))  # begins with 02, as an INTEGER would


@dataclass(frozen=True)
class Amd:
    """A chip of one product, its certificates and its reports."""

    product: str = "Milan"
    kind: str = "vcek"
    versions: Mapping[str, int] = field(
        default_factory=lambda: {"boot_loader": 4, "tee": 1, "snp": 0x18, "microcode": 0xDB,
                                 "fmc": 2}
    )  # fmt: skip
    hwid: bytes | None = None
    without: tuple[str, ...] = ()
    extra: Mapping[str, bytes] = field(default_factory=dict)
    leaf: Mapping[str, Any] = field(default_factory=dict)
    between: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chip(self) -> bytes:
        return CHIP[:8].ljust(64, b"\0") if self.product == "Turin" else CHIP

    @property
    def ark(self) -> Issue:
        key, own = rsa_key("ark"), f"ARK-{self.product}"
        return Issue(own, key, own, key, 65536, extensions=(basic(True), usage(0x06)))

    @property
    def ask(self) -> Issue:
        own = f"SEV-{'VLEK-' if self.kind == 'vlek' else ''}{self.product}"
        made = Issue(own, rsa_key("ask"), self.ark.subject, self.ark.key, 65537,
                     extensions=(basic(True, 0), usage(CERT_SIGN)))  # fmt: skip
        return replace(made, **self.between)

    @property
    def extensions(self) -> dict[str, bytes]:
        own = {_AMD + "1": integer(0), _AMD + "2": der(0x16, f"{self.product}-B0".encode())}
        names = {"boot_loader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8"}
        if self.product == "Turin":
            names["fmc"] = "3.9"
        own |= {_AMD + number: integer(self.versions[which]) for which, number in names.items()}
        if self.kind == "vcek":
            size = 8 if self.product == "Turin" else 64
            own[_AMD + "4"] = self.chip[:size] if self.hwid is None else self.hwid
        own |= self.extra
        return {which: value for which, value in own.items() if which not in self.without}

    @property
    def vek(self) -> Issue:
        listed = [(which, False, value) for which, value in self.extensions.items()]
        made = Issue(f"SEV-{self.kind.upper()}", p384("vek"), self.ask.subject, self.ask.key, 0,
                     extensions=listed)  # fmt: skip
        return replace(made, **self.leaf)

    @property
    def tcb(self) -> bytes:
        v = self.versions
        if self.product == "Turin":
            order = [v["fmc"], v["boot_loader"], v["tee"], v["snp"], 0, 0, 0, v["microcode"]]
        else:
            order = [v["boot_loader"], v["tee"], 0, 0, 0, 0, v["snp"], v["microcode"]]
        return bytes(order)

    def report(self, **changes: Any) -> bytes:
        """A signed report; ``at`` maps offsets to bytes that are put there before signing."""
        family, model = _CPU[self.product]
        fields = {
            "version": 3, "policy": 0x30000, "vmpl": 0, "algorithm": 1,
            "signing_key": {"vcek": 0, "vlek": 1}[self.kind], "report_data": REPORT_DATA,
            "measurement": bytes([7]) * 48, "host_data": bytes([8]) * 32, "tcb": self.tcb,
            "family": family, "model": model, "chip_id": self.chip, **changes,
        }  # fmt: skip
        data = bytearray(1184)
        struct.pack_into("<IIQ", data, 0, fields["version"], 1, fields["policy"])
        struct.pack_into("<II", data, 0x30, fields["vmpl"], fields["algorithm"])
        struct.pack_into("<I", data, 0x48, fields["signing_key"] << 2)
        data[0x50:0x90], data[0x90:0xC0] = fields["report_data"], fields["measurement"]
        data[0xC0:0xE0], data[0x180:0x188] = fields["host_data"], fields["tcb"]
        data[0x188:0x18A] = bytes([fields["family"], fields["model"]])
        data[0x1A0:0x1E0] = fields["chip_id"]
        numbers = p384("vek").numbers(bytes(data[:0x2A0]), hashes.SHA384())
        for k, number in enumerate(numbers):
            data[0x2A0 + 72 * k : 0x2A0 + 72 * k + 48] = number.to_bytes(48, "little")
        return bytes(data)

    def evidence(self, **changes: Any) -> Evidence:
        """A report with its certificates and AMD's revocation list."""
        lists = [revocations(self.ark.subject, self.ark.key)]
        return Evidence("snp", self.report(**changes), pem(self.vek.der, self.ask.der),
                        snp_collateral(*lists))  # fmt: skip

    @staticmethod
    def roots() -> Roots:
        arks = {product: parse(Amd(product).ark.der) for product in _CPU}
        return Roots(arks, (), parse(Intel().root.der))

    def policy(self, **changes: Any) -> Policy:
        own: dict[str, Any] = {
            "platforms": ["snp"], "products": [self.product], "key_kinds": [self.kind],
            "measurements": [{"launch_digest": "07" * 48}],
            "minimum_tcb": {self.product: {"snp": 0x18}},
        }  # fmt: skip
        return Policy.parse({**own, **changes})


def snp_collateral(*lists: bytes) -> bytes:
    return json.dumps({"revocation_lists": [each.hex() for each in lists]}).encode()


_PCK = "1.2.840.113741.1.13.1"
FMSPC, PPID = "00906ED50000", bytes(range(16))
QE_SIGNER = bytes([0x51]) * 32
QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")


def enclave(**changes: Any) -> bytes:
    """An enclave's report, 384 bytes."""
    fields = {
        "misc": 0, "attributes": b"\x05" + bytes(7) + b"\x03" + bytes(7), "code": bytes([1]) * 32,
        "signer": bytes([2]) * 32, "product": 3, "svn": 4, "report_data": REPORT_DATA, **changes,
    }  # fmt: skip
    data = bytearray(384)
    struct.pack_into("<I", data, 16, fields["misc"])
    data[48:64], data[64:96], data[128:160] = (
        fields["attributes"], fields["code"], fields["signer"],
    )  # fmt: skip
    struct.pack_into("<HH", data, 256, fields["product"], fields["svn"])
    data[320:384] = fields["report_data"]
    return bytes(data)


def domain(size: int = 584, **changes: Any) -> bytes:
    """A trust domain's report, 584 or 648 bytes."""
    fields = {
        "svn": bytes([3, 1, 5]) + bytes(13), "module_signer": bytes(48),
        "module_attributes": bytes(8), "attributes": b"\0\0\0\x10" + bytes(4),
        "mrtd": bytes([9]) * 48, "rtmr": bytes([6]) * 48, "report_data": REPORT_DATA, **changes,
    }  # fmt: skip
    data = bytearray(size)
    data[:16], data[64:112] = fields["svn"], fields["module_signer"]
    if size == 648:
        data[584:600] = fields.get("svn_now", fields["svn"])
    data[112:120], data[120:128] = fields["module_attributes"], fields["attributes"]
    data[136:184] = fields["mrtd"]
    for k in range(4):
        data[328 + 48 * k : 376 + 48 * k] = fields["rtmr"]
    data[520:584] = fields["report_data"]
    return bytes(data)


def svn_level(svn: int, status: str, *advisories: str) -> dict[str, Any]:
    """A level of a module or of a quoting enclave."""
    return {"tcb": {"isvsvn": svn}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": status,
            "advisoryIDs": list(advisories)}  # fmt: skip


def level(svn: int, status: str, *advisories: str, tdx: bool = True) -> dict[str, Any]:
    """A level of a platform whose components all have that version."""
    tcb: dict[str, Any] = {"sgxtcbcomponents": [{"svn": svn}] * 16, "pcesvn": 11}
    if tdx:
        tcb["tdxtcbcomponents"] = [{"svn": 9}] * 2 + [{"svn": svn}] + [{"svn": 0}] * 13
    return {"tcb": tcb, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": status,
            "advisoryIDs": list(advisories)}  # fmt: skip


@dataclass(frozen=True)
class Intel:
    """A processor with SGX and TDX, its quotes, and what its vendor signs about it."""

    components: tuple[int, ...] = (5,) * 16
    pcesvn: int = 11
    fmspc: str = FMSPC
    pck_changes: Mapping[str, Any] = field(default_factory=dict)
    signer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Issue:
        key, own = p256("root"), "Intel SGX Root CA"
        return Issue(own, key, own, key, 7, extensions=(basic(True, 1), usage(0x06)))

    @property
    def authority(self) -> Issue:
        return Issue("Intel SGX PCK Platform CA", p256("ca"), self.root.subject, self.root.key, 8,
                     extensions=(basic(True, 0), usage(0x06)))  # fmt: skip

    @property
    def pck(self) -> Issue:
        tcb = [
            seq(oid(f"{_PCK}.2.{k}"), integer(svn))
            for k, svn in enumerate((*self.components, self.pcesvn), start=1)
        ]
        tcb.append(seq(oid(f"{_PCK}.2.18"), octets(bytes(self.components))))
        said = seq(
            seq(oid(f"{_PCK}.1"), octets(PPID)),
            seq(oid(f"{_PCK}.2"), seq(*tcb)),
            seq(oid(f"{_PCK}.3"), octets(bytes(2))),
            seq(oid(f"{_PCK}.4"), octets(bytes.fromhex(self.fmspc))),
            seq(oid(f"{_PCK}.5"), integer(0, 0x0A)),
        )
        made = Issue("Intel SGX PCK Certificate", p256("pck"), self.authority.subject,
                     self.authority.key, 99, extensions=(basic(False), usage(0xC0),
                                                         (_PCK, False, said)))  # fmt: skip
        return replace(made, **self.pck_changes)

    @property
    def tcb_signer(self) -> Issue:
        made = Issue("Intel SGX TCB Signing", p256("tcb"), self.root.subject, self.root.key, 10,
                     extensions=(basic(False), usage(0xC0)))  # fmt: skip
        return replace(made, **self.signer)

    def quote(self, body: bytes, version: int = 0, **changes: Any) -> bytes:
        """A signed quote about an enclave (384 bytes) or a domain (584, 648).

        ``qe`` changes the quoting enclave's report; ``header`` and ``trailing`` are bytes.
        """
        sgx = len(body) == 384
        version = version or {384: 3, 584: 4, 648: 5}[len(body)]
        own: dict[str, Any] = {
            "vendor": QE_VENDOR, "qe": {}, "authentication": bytes(range(32)),
            "chain": pem(self.pck.der, self.authority.der, self.root.der), "trailing": b"",
            "key_type": 2, "certification": 5,
        }  # fmt: skip
        own |= changes
        head = struct.pack("<HHI", version, own["key_type"], 0 if sgx else 0x81)
        head += bytes(4) + own["vendor"] + bytes(20)
        if version == 5:
            head += struct.pack("<HI", {384: 1, 584: 2, 648: 3}[len(body)], len(body))
        signed = head + body
        key = p256("attestation")
        bound = hashlib.sha256(key.point + own["authentication"]).digest() + bytes(32)
        qe = enclave(**{
            "attributes": b"\x11" + bytes(15), "signer": QE_SIGNER, "product": 1 if sgx else 2,
            "svn": 8, "report_data": bound, **own["qe"],
        })  # fmt: skip
        inner = qe + p256("pck").raw(qe)
        inner += struct.pack("<H", len(own["authentication"])) + own["authentication"]
        inner += struct.pack("<HI", own["certification"], len(own["chain"])) + own["chain"]
        if version >= 4:
            inner = struct.pack("<HI", 6, len(inner)) + inner
        rest = key.raw(signed) + key.point + inner
        return signed + struct.pack("<I", len(rest)) + rest + own["trailing"]

    def tcb_info(self, tdx: bool, **changes: Any) -> dict[str, Any]:
        """What the vendor thinks of versions: 5 is up to date, 4 is not, below there is nothing."""

        module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        info: dict[str, Any] = {
            "id": "TDX" if tdx else "SGX", "version": 3, "issueDate": "2026-05-20T00:00:00Z",
            "nextUpdate": "2026-06-19T00:00:00Z", "fmspc": self.fmspc, "pceId": "0000",
            "tcbType": 0, "tcbEvaluationDataNumber": 17,
            "tcbLevels": [
                level(5, "UpToDate", tdx=tdx), level(4, "OutOfDate", "INTEL-SA-00001", tdx=tdx),
            ],
        }  # fmt: skip
        if tdx:
            info["tdxModule"] = module
            levels = [svn_level(3, "UpToDate"),
                      svn_level(2, "OutOfDate")]  # fmt: skip
            info["tdxModuleIdentities"] = [{"id": "TDX_01", **module, "tcbLevels": levels}]
        return {**info, **changes}

    def qe_identity(self, tdx: bool, **changes: Any) -> dict[str, Any]:
        """Who the quoting enclave is."""
        levels = [svn_level(8, "UpToDate"),
                  svn_level(6, "OutOfDate")]  # fmt: skip
        return {
            "id": "TD_QE" if tdx else "QE", "version": 2, "issueDate": "2026-05-20T00:00:00Z",
            "nextUpdate": "2026-06-19T00:00:00Z", "tcbEvaluationDataNumber": 17,
            "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
            "attributes": "11" + "00" * 15, "attributesMask": "FB" + "FF" * 7 + "00" * 8,
            "mrsigner": QE_SIGNER.hex().upper(), "isvprodid": 2 if tdx else 1,
            "tcbLevels": levels, **changes,
        }  # fmt: skip

    def collateral(
        self,
        tdx: bool,
        tcb_info: Mapping[str, Any] | None = None,
        qe_identity: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> bytes:
        """All that is signed about the platform, as JSON."""
        texts = {
            "tcb_info": json.dumps(self.tcb_info(tdx, **(tcb_info or {}))),
            "qe_identity": json.dumps(self.qe_identity(tdx, **(qe_identity or {}))),
        }
        signer = pem(self.tcb_signer.der, self.root.der).decode()
        key = self.tcb_signer.key
        whole = {
            "pck_crl_issuer_chain": pem(self.authority.der, self.root.der).decode(),
            "root_ca_crl": revocations(self.root.subject, self.root.key).hex(),
            "pck_crl": revocations(self.authority.subject, self.authority.key, [5]).hex(),
            **texts,
            **{f"{each}_signature": key.raw(text.encode()).hex() for each, text in texts.items()},
            **{f"{each}_issuer_chain": signer for each in texts},
        }
        return json.dumps({**whole, **changes}).encode()

    def evidence(self, body: bytes, version: int = 0, **changes: Any) -> Evidence:
        """A quote with its collateral."""
        tdx = len(body) != 384
        quote = self.quote(body, version, **changes)
        return Evidence("tdx" if tdx else "sgx", quote, b"", self.collateral(tdx))

    def policy(self, **changes: Any) -> Policy:
        own: dict[str, Any] = {
            "platforms": ["sgx", "tdx"], "products": ["Intel"],
            "measurements": [
                {"mrenclave": "01" * 32}, {"mrtd": "09" * 48, "rtmr3": "06" * 48},
            ],
        }  # fmt: skip
        return Policy.parse({**own, **changes})
