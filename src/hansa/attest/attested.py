"""``channel: attested``: sites that show each other evidence of the hardware that they run on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from hansa.attest.attesters.attester import Attester
from hansa.attest.attesters.auto import Auto
from hansa.attest.attesters.simulated import SimulatedAttester
from hansa.attest.channel import LONGEST, AttestedVoucher, Judge, Members, Terms
from hansa.attest.code import code_digest
from hansa.attest.evidence import Evidence
from hansa.attest.policy import Policy
from hansa.attest.refusals import AttestationError
from hansa.attest.sealing import Sealing, run_of
from hansa.attest.simulation import SimulatedRoot, check_allowed, verify_simulated
from hansa.attest.verdict import Verdict
from hansa.attest.verify import verify
from hansa.base.component import register
from hansa.base.errors import ConfigError, HansaError
from hansa.engine.links.vouching import ChannelKind, Meeting, Vouching
from hansa.engine.settings import Settings

_CONFIG = b"hansa attested configuration 1\0"
ROOT = "simulated-root"
"""Where in a run's folder the root of a simulation is kept whose checkpoints are sealed."""
_DOCS = "docs/attestation.md says what each attester and each line of a policy needs"
_OWN = bytes(64)  # what the evidence is about that a site shows itself


class Reattest(Settings):
    """When evidence is shown anew over links that live on."""

    rounds: int = Field(0, ge=0, description="rounds between two times; 0: rounds are no matter")
    seconds: float = Field(3600.0, ge=0, description="seconds between two times; 0: never")


@register("attested")
class Attested(ChannelKind):
    """TLS 1.3, and inside it evidence of trusted hardware, both ways, before anything else."""

    attests: ClassVar[bool] = True
    policy: Path = Field(description="the policy that evidence has to satisfy, the same at all")
    attester: Attester = Field(Auto(), description="where this site's own evidence comes from")
    reattest: Reattest = Field(Reattest(), description="when evidence is shown anew")
    per_chip: int | None = Field(
        1, ge=1, description="members that may be on one chip; null: any number, so that one owner "
        "of a chip can be many members"
    )  # fmt: skip
    seal: bool = Field(
        False, description="checkpoints are encrypted by a key that only the same code on the same "
        "chip has, and chained; what reads models from checkpoints then cannot"
    )  # fmt: skip
    seconds: float = Field(20.0, gt=0, description="that an exchange of evidence may take")

    @property
    def mark(self) -> str:
        return "" if self.attester.is_hardware else "simulated"

    @property
    def every(self) -> int:
        return self.reattest.rounds

    def check(self) -> None:
        policy = Policy.load(self.policy)
        if policy.simulated and self.attester.is_hardware:
            problem = "takes simulated evidence only, and this site's is not"
            raise ConfigError("policy", str(self.policy), problem, "attester: simulated, for tests")
        if not self.attester.is_hardware:
            if not policy.simulated:
                problem = "takes no simulated evidence"
                raise ConfigError("policy", str(self.policy), problem, "an attester of hardware")
            check_allowed("attester")
        try:
            self.attester.tee  # noqa: B018 - it raises where there is no such hardware
            if self.seal and self.attester.is_hardware:
                self.attester.sealing_key()
        except AttestationError as error:
            name = type(self.attester).name
            raise ConfigError("attester", name, f"gives no evidence: {error}", _DOCS) from None

    def found(self, folder: Path) -> dict[str, Any]:
        """The policy, the chain of checkpoints, and for a simulation the root of this run."""
        self.check()
        founded = {"policy": Policy.load(self.policy).dump(), **self.alone(folder)}
        if not self.attester.is_hardware:
            kept = folder / ROOT
            root = SimulatedRoot.load(kept) if kept.exists() else SimulatedRoot.generate()
            if self.seal and not kept.exists():  # who resumes has to open what was sealed
                root.save(kept)
            founded["root"] = root.seed
        return founded

    def alone(self, folder: Path) -> dict[str, Any]:
        return {"chain": run_of(folder / "checkpoints")} if self.seal else {}

    def sealer(self, member: Mapping[str, Any]) -> Sealing | None:
        if not self.seal:
            return None
        try:
            return Sealing(self.attester.told(member).sealing_key(), member["chain"])
        except AttestationError as error:
            problem = f"there is no key to seal with: {error}"
            raise ConfigError("channel.seal", True, problem, "seal: false") from None

    def member(self, founded: Mapping[str, Any]) -> dict[str, Any]:
        """The policy, and what it simulates with."""
        told = {name: founded[name] for name in ("policy", "chain") if name in founded}
        if "root" in founded:
            told["simulated"] = SimulatedRoot(founded["root"]).member().dump()
        return told

    def vouching(self, run: str, config: Mapping[str, Any], member: Mapping[str, Any]) -> Vouching:
        policy = Policy.parse(member["policy"]) if "policy" in member else Policy.load(self.policy)
        agreed = self._agreed(config)
        attester = self.attester.told({**member, "config": agreed})
        terms = Terms(run, policy.digest(), agreed, code_digest())
        judge = judge_by(policy, attester)
        return AttestedVouching(self, terms, attester, judge, own_verdict(attester, judge))

    def _agreed(self, config: Mapping[str, Any]) -> bytes:
        """32 bytes: what the run is configured to do, and what this channel asks of all alike."""
        alike = {"reattest": self.reattest.model_dump(), "per_chip": self.per_chip}
        said = {"run": dict(config), "channel": alike}
        text = json.dumps(said, sort_keys=True, default=str, separators=(",", ":"))
        return hashlib.sha256(_CONFIG + text.encode()).digest()


def judge_by(policy: Policy, attester: Attester) -> Judge:
    """What judges evidence by a policy; of a simulation, by its root."""
    if not isinstance(attester, SimulatedAttester):
        return lambda evidence, about, at: verify(evidence, policy, at=at, report_data=about)
    root = attester.member.root

    def simulated(evidence: Evidence, about: bytes, at: datetime) -> Verdict:
        if evidence.tee != "simulated":
            return verify(evidence, policy, at=at, report_data=about)
        return verify_simulated(evidence, policy, root, about)

    return simulated


def own_verdict(attester: Attester, judge: Judge) -> Verdict:
    """What a site's own evidence comes to: whom others would refuse learns it at once.

    Raises:
        ConfigError: there is none, or it would be refused.
    """
    name = type(attester).name
    try:
        verdict = judge(attester.evidence(_OWN), _OWN, datetime.now(UTC))
    except ConfigError:
        raise
    except (HansaError, OSError) as error:
        raise ConfigError("channel.attester", name, f"gives no evidence: {error}", _DOCS) from error
    if not verdict.accepted:
        reasons = "; ".join(f"{problem}: {text}" for problem, text in verdict.problems)
        problem = f"gives evidence that this site's own policy refuses: {reasons}"
        raise ConfigError("channel.attester", name, problem, _DOCS)
    return verdict


@dataclass
class AttestedVouching:
    """One site's: :class:`hansa.engine.links.vouching.Vouching`."""

    channel: Attested
    terms: Terms
    attester: Attester
    judge: Judge
    own: Verdict

    def __post_init__(self) -> None:
        self.longest, self.seconds = LONGEST, self.channel.seconds
        self.every, self.mark = self.channel.reattest.seconds, self.channel.mark
        self._members = Members(self.channel.per_chip)
        if objection := self._members.objection(None, self.own):
            raise ConfigError("channel.attester", type(self.attester).name, objection[1], "")

    def between(self, meeting: Meeting) -> AttestedVoucher:
        """A new exchange."""
        terms, attester = self.terms, self.attester
        return AttestedVoucher(meeting, terms, attester, self.own, self.judge, self._members)
