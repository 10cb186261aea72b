"""Which evidence is accepted: one frozen policy, with one hash that both ends of a channel compare.

Nothing is permissive by default. What weakens a policy (debugging, a lower privilege level, any
measurement, evidence without the vendor's lists) has to be written down by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from hansa.attest.measurement import Hex, Measurement
from hansa.attest.refusals import PolicyError
from hansa.base.checks import explain, refuse_booleans
from hansa.base.errors import ConfigError
from hansa.base.yamltext import load_yaml

Platform = Literal["snp", "tdx", "sgx"]
SNP_PRODUCTS = ("Milan", "Genoa", "Turin")
INTEL = "Intel"
"""Any Intel product whose collateral is there; an FMSPC of 12 hex digits is one of them."""

STATUSES = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)
"""What Intel says of a platform, best first. ``Revoked`` is not among them: nothing accepts it."""

_DAY = 86_400
_LARGEST = 1 << 20  # bytes of a policy's file
_LABEL = b"hansa attestation policy 1\0"
# AMD-SB-3019 (2025): the first SNP firmware with a sound check of microcode signatures.
_SB3019 = {"Milan": "{snp: 0x18}", "Genoa": "{snp: 0x17}", "Turin": "{snp: its firmware's}"}

Svn = Annotated[int, Field(ge=0, le=255)]


def _sorted(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """In one order, each once: two policies that mean the same have the same hash."""
    return tuple(sorted(set(values), key=str))


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | Mapping) else value


def _product(value: str) -> str:
    if value in (*SNP_PRODUCTS, INTEL):
        return value
    if len(value) == 12 and all(c in "0123456789abcdefABCDEF" for c in value):
        return value.upper()
    raise ValueError(f"is no product: {', '.join(SNP_PRODUCTS)}, {INTEL}, or an FMSPC (12 digits)")


def _advisory(value: str) -> str:
    if not value.startswith("INTEL-SA-"):
        raise ValueError("is no advisory of Intel's, such as INTEL-SA-00615")
    return value


Listed = BeforeValidator(_listed)
Ordered = AfterValidator(_sorted)


class Tcb(BaseModel):
    """Security version numbers of an SNP platform, the lowest that are taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boot_loader: Svn = 0
    tee: Svn = 0
    snp: Svn = Field(description="of the SNP firmware")
    microcode: Svn = 0
    fmc: Svn = Field(0, description="Turin and later")

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, settings: Any) -> Any:
        refuse_booleans(cls, settings)
        return settings


class Policy(BaseModel):
    """What has to hold of evidence.

    Raises:
        PolicyError: by :meth:`parse` and :meth:`load`; names the field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    platforms: Annotated[tuple[Platform, ...], Listed, Ordered] = Field(
        (), description="kinds of hardware that are taken: snp, tdx, sgx"
    )
    products: Annotated[tuple[Annotated[str, AfterValidator(_product)], ...], Listed, Ordered] = (
        Field((), description="Milan, Genoa, Turin; Intel for any of Intel's, or an FMSPC")
    )
    measurements: Annotated[tuple[Measurement, ...], Listed, Ordered] = Field(
        (), description="the code that is taken: one entry has to hold as a whole"
    )
    any_measurement: bool = Field(False, description="take any code whatever")
    minimum_tcb: Mapping[Literal["Milan", "Genoa", "Turin"], Tcb] = Field(
        {}, description="the oldest firmware that is taken, of each SNP product"
    )
    key_kinds: Annotated[tuple[Literal["vcek", "vlek"], ...], Listed, Ordered] = Field(
        ("vcek",), description="SNP keys that are taken: a chip's own (vcek), a provider's (vlek)"
    )
    masked_chip_id: bool = Field(False, description="take SNP reports that do not name their chip")
    debug: bool = Field(False, description="take enclaves and guests that their host can debug")
    migration: bool = Field(
        False,
        description="take guests that may be moved elsewhere: SNP with a migration agent, TDX",
    )
    vmpl: int = Field(0, ge=0, le=3, description="the least privileged level taken, SNP")
    statuses: Annotated[
        tuple[
            Literal[
                "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded",
                "ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded",
            ],
            ...,
        ],
        Listed,
        Ordered,
    ] = Field(("UpToDate",), description="states of an Intel platform that are taken")  # fmt: skip
    advisories: Annotated[
        tuple[Annotated[str, AfterValidator(_advisory)], ...], Listed, Ordered
    ] = Field((), description="known weaknesses of an Intel platform that are tolerated")
    minimum_evaluation: int = Field(
        0, ge=0, description="the oldest tcbEvaluationDataNumber of Intel's lists that is taken"
    )
    collateral: Literal["required", "if-given"] = Field(
        "required",
        description="the vendor's signed lists: TCB info, QE identity and revocations of Intel, "
        "revocations of AMD; if-given: without them nobody knows whether a chip is revoked",
    )
    collateral_age_s: int = Field(
        30 * _DAY,
        ge=1,
        le=3650 * _DAY,
        description="the oldest TCB info and QE identity that are taken, seconds",
    )
    revoked_chips: Annotated[tuple[Hex, ...], Listed, Ordered] = Field(
        (), description="chips that are never taken: chip ids of SNP, PPIDs of Intel"
    )
    allow_trailing: bool = Field(
        False, description="take Intel quotes with bytes after what is signed, as some hosts write"
    )
    simulated: bool = Field(False, description="take simulated evidence, and no other")

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, settings: Any) -> Any:
        refuse_booleans(cls, settings)
        return settings

    @classmethod
    def parse(cls, settings: Any) -> Self:
        """A checked policy from plain data.

        Raises:
            PolicyError: names the field, its value and the way out.
        """
        if not isinstance(settings, Mapping):
            raise PolicyError("", None, "is no policy", "a mapping with platforms, products, ...")
        try:
            policy = cls.model_validate(dict(settings))
        except ValidationError as error:
            told = explain(error, cls)
            raise PolicyError(told.field, told.value, told.problem, told.fix) from None
        except ConfigError as error:
            raise PolicyError(error.field, error.value, error.problem, error.fix) from None
        policy._check()
        return policy

    @classmethod
    def load(cls, path: Path) -> Self:
        """A policy from a file of YAML or JSON.

        Raises:
            PolicyError: it cannot be read, or it is no policy.
        """
        try:
            with path.expanduser().open("rb") as file:
                data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise PolicyError("policy", str(path), "is too large", f"at most {_LARGEST} bytes")
            settings = load_yaml(data.decode("utf-8"))
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise PolicyError("policy", str(path), problem, "the path of a policy") from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            text = " ".join(str(error).split())
            raise PolicyError("policy", str(path), f"is no YAML: {text}", "YAML or JSON") from None
        return cls.parse(settings)

    def dump(self) -> dict[str, Any]:
        """Plain data from which :meth:`parse` makes an equal policy."""
        return self.model_dump(mode="json", exclude_none=True)

    def digest(self) -> bytes:
        """32 bytes that two policies share exactly where they accept the same.

        SHA-256 over a label and every field, defaults too, as JSON with sorted keys.
        """
        text = json.dumps(self.dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(_LABEL + text.encode()).digest()

    def _check(self) -> None:
        """Refuse what contradicts itself, and what would take anything by being left out."""
        if self.simulated and self.platforms:
            raise PolicyError(
                "simulated", True, f"and hardware ({', '.join(self.platforms)}) are never in one "
                "group", "platforms of hardware, or simulated: true for tests",
            )  # fmt: skip
        if not self.simulated and not self.platforms:
            raise PolicyError("platforms", [], "nothing would be taken", "some of snp, tdx, sgx")
        if self.any_measurement and self.measurements:
            raise PolicyError(
                "any_measurement", True, "takes what measurements would refuse", "one of the two"
            )
        if not self.any_measurement and not self.measurements:
            raise PolicyError(
                "measurements", [], "no code is named",
                "the measurements that are taken, or any_measurement: true (takes any code)",
            )  # fmt: skip
        for k, each in enumerate(self.measurements):
            if each.platform not in self.platforms:
                raise PolicyError(
                    f"measurements.{k}", each.dump(), f"is of {each.platform}, which is not taken",
                    f"platforms with {each.platform}, or no such measurement",
                )  # fmt: skip
        self._check_products()

    def _check_products(self) -> None:
        snp = [name for name in self.products if name in SNP_PRODUCTS]
        intel = [name for name in self.products if name not in SNP_PRODUCTS]
        wanted = {"snp": (snp, SNP_PRODUCTS), "tdx": (intel, (INTEL,)), "sgx": (intel, (INTEL,))}
        for platform in self.platforms:
            named, known = wanted[platform]
            if not named:
                raise PolicyError(
                    "products", list(self.products), f"names none of {platform}",
                    f"some of {', '.join(known)}",
                )  # fmt: skip
        if (snp and "snp" not in self.platforms) or (intel and set(self.platforms) <= {"snp"}):
            odd = intel if set(self.platforms) <= {"snp"} else snp
            raise PolicyError(
                "products", odd[0], "is of no platform that is taken", "no such product"
            )
        for name in snp:
            if name not in self.minimum_tcb:
                raise PolicyError(
                    "minimum_tcb", sorted(self.minimum_tcb), f"says nothing of {name}",
                    f"{name}: {_SB3019[name]} or higher",
                )  # fmt: skip
        for name in self.minimum_tcb:
            if name not in snp:
                raise PolicyError(
                    f"minimum_tcb.{name}", None, "is no product that is taken", "no such entry"
                )
