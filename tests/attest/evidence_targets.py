"""Fuzz targets of what attests: any bytes give a verdict or one kind of error, and nothing changed
is accepted.

Seeds are what the vendor of the tests makes, and the real evidence where $HANSA_DATA is. Tests
drive them with a few mutations, ``tests/fuzz_attest.py`` with many.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from typing import Any

from hansa.attest.certificates import parse, read_bundle
from hansa.attest.evidence import LARGEST, Evidence
from hansa.attest.evidence_files import recognise
from hansa.attest.explanation import explain
from hansa.attest.policy import Policy
from hansa.attest.quote import Quote
from hansa.attest.refusals import AttestationError, Malformed
from hansa.attest.revocation import RevocationList
from hansa.attest.roots import Roots, pinned
from hansa.attest.verify import verify

from ..toy.mutating import mutated
from . import real
from .certifying import NOW
from .vendor import Amd, Intel, domain, enclave

Target = Callable[[bytes], None]
Case = tuple[Evidence, Policy, datetime, Roots]


@cache
def cases(kind: str) -> list[Case]:
    """Evidence that is accepted, with what it takes to accept it."""
    amd, intel, roots = Amd("Turin"), Intel(), Amd.roots()
    made: dict[str, list[Case]] = {
        "snp": [(amd.evidence(), amd.policy(), NOW, roots)],
        "quote": [
            (intel.evidence(body), intel.policy(), NOW, roots)
            for body in (enclave(), domain(), domain(648))
        ],
    }
    found = made[kind]
    if "HANSA_DATA" in os.environ:
        names = ("milan", "turin", "milan-vlek") if kind == "snp" else ("tdx", "sgx", "tdx-5")
        for name in names:
            evidence, at = real.evidence_of(name)
            if name == "tdx":  # without what is behind its end, which may be anything
                evidence = dataclasses.replace(evidence, report=evidence.report[:-70])
            policy = real.policy(allow_trailing=False)
            found.append((evidence, policy, at, pinned()))
    return found


def part(kind: str, field: str, meaning: Callable[[bytes], Any] = bytes) -> Target:
    """Change one part of evidence: what is accepted has to mean the same."""

    def one(data: bytes) -> None:
        for case in cases(kind):
            evidence, policy, at, roots = case
            own = getattr(evidence, field)
            if not own or not data or evidence.size - len(own) + len(data) > LARGEST:
                continue
            changed = dataclasses.replace(evidence, **{field: data})
            verdict = verify(changed, policy, at=at, report_data=None, roots=roots)
            assert verdict.accepted == (not verdict.problems)
            assert all(name and text for name, text in verdict.problems)
            if verdict.accepted:
                others = [getattr(other, field) for other, *_ in cases(kind)]
                assert meaning(data) in [meaning(each) for each in others if each]

    return one


def quote_meaning(data: bytes) -> Any:
    """A quote but for white space between certificates."""
    quote = Quote.parse(data)
    bundle = tuple(each.raw for each in read_bundle(quote.pck_chain) if not each.self_issued)
    return dataclasses.replace(quote, pck_chain=b"".join(bundle))


def bundle_meaning(data: bytes) -> Any:
    """Certificates but those that the verifier has itself."""
    return [each for each in read_bundle(data) if each.path_length is None]


def collateral_meaning(data: bytes) -> Any:
    """What of collateral counts: the signed texts, and what the lists revoke."""
    value = json.loads(data)
    if "revocation_lists" in value:
        return {RevocationList.parse(bytes.fromhex(each)) for each in value["revocation_lists"]}
    lists = ("root_ca_crl", "pck_crl")
    return (
        [value[name] for name in ("tcb_info", "qe_identity")],
        [RevocationList.parse(bytes.fromhex(value[name])) for name in lists],
    )


def reading(read: Callable[[bytes], Any], *errors: type[Exception]) -> Target:
    """Read something: what it raises is declared."""

    def one(data: bytes) -> None:
        try:
            read(data)
        except errors:
            return

    return one


def any_file(data: bytes) -> None:
    try:
        evidence = recognise(data)
    except AttestationError:
        return
    for _, policy, at, roots in (*cases("snp")[:1], *cases("quote")[:1]):
        verify(evidence, policy, at=at, report_data=bytes(64), roots=roots)
    try:
        explain(evidence)
    except AttestationError:
        return


def written_policy(data: bytes) -> None:
    try:
        policy = Policy.parse(json.loads(data))
    except (AttestationError, json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return
    assert Policy.parse(policy.dump()).digest() == policy.digest()


TARGETS: dict[str, Target] = {
    "SNP report": part("snp", "report"),
    "SNP certificates": part("snp", "certificates", bundle_meaning),
    "SNP collateral": part("snp", "collateral", collateral_meaning),
    "quote": part("quote", "report", quote_meaning),
    "Intel collateral": part("quote", "collateral", collateral_meaning),
    "certificate": reading(parse, Malformed),
    "revocation list": reading(RevocationList.parse, Malformed),
    "any file": any_file,
    "policy": written_policy,
}


def seeds(target: str) -> list[bytes]:
    """Good inputs of a target."""
    intel = Intel()
    snp, quotes = ([case[0] for case in cases(kind)] for kind in ("snp", "quote"))
    certificates = [each for one in snp for each in read_bundle(one.certificates)]
    lists = json.loads(quotes[0].collateral)
    policies = [case[1].dump() for kind in ("snp", "quote") for case in cases(kind)]
    good: dict[str, list[bytes]] = {
        "SNP report": [each.report for each in snp],
        "SNP certificates": [each.certificates for each in snp],
        "SNP collateral": [each.collateral for each in snp if each.collateral],
        "quote": [each.report for each in quotes],
        "Intel collateral": [each.collateral for each in quotes if each.collateral],
        "certificate": [*(each.raw for each in certificates), intel.pck.der, intel.root.der],
        "revocation list": [bytes.fromhex(lists[name]) for name in ("root_ca_crl", "pck_crl")],
        "any file": [*(each.to_bytes() for each in (*snp, *quotes)), snp[0].report,
                     quotes[0].report, snp[0].report.hex().encode()],
        "policy": [json.dumps(each).encode() for each in policies],
    }  # fmt: skip
    return good[target]


def mutations(target: str, count: int, seed: int = 0) -> Iterator[bytes]:
    """So many mutated inputs of a target; those of texts keep what holds them together."""
    draws = random.Random(f"{seed} {target}")
    good = seeds(target)
    for _ in range(count):
        data = draws.choice(good)
        if data[:1] == b"{" and draws.random() < 0.7:
            yield _within_json(data, draws)
        else:
            yield mutated(data, draws, good)


def _within_json(data: bytes, draws: random.Random) -> bytes:
    """JSON of which one value is another: an inner text, a number, or of another kind."""
    value = json.loads(data)
    name = draws.choice(list(value))
    inner = value[name]
    if isinstance(inner, str) and inner and draws.random() < 0.8:
        changed = mutated(inner.encode(), draws, [inner.encode()])
        value[name] = changed.decode("utf-8", "replace")
    else:
        odd = (None, True, -1, 1 << 70, 1e400, "", [], {}, [[]], "ff", [inner], {"a": inner})
        value[name] = draws.choice(odd)
    return json.dumps(value).encode()
