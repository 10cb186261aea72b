"""What a policy says of the code that runs: reference values, compared with what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _hex(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is no text: write hex digits in quotes")
    digits = value.lower().removeprefix("0x")
    try:
        return bytes.fromhex(digits).hex()
    except ValueError:
        raise ValueError("is not made of pairs of hex digits") from None


def _of(size: int) -> Any:
    def sized(value: Any) -> str:
        digits = _hex(value)
        if len(digits) != 2 * size:
            raise ValueError(f"has {len(digits)} hex digits and needs {2 * size}")
        return digits

    return BeforeValidator(sized)


Hex = Annotated[str, BeforeValidator(_hex)]
Hex32 = Annotated[str, _of(32)]
Hex48 = Annotated[str, _of(48)]

_PLATFORM = {"launch_digest": "snp", "mrenclave": "sgx", "mrsigner": "sgx", "mrtd": "tdx"}
_BESIDE = {
    "snp": {"launch_digest", "host_data"},
    "sgx": {"mrenclave", "mrsigner", "isv_prod_id", "isv_svn"},
    "tdx": {
        *("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"),
        *("mrconfigid", "mrowner", "mrownerconfig", "firmware_only"),
    },
}


class Measurement(BaseModel):
    """One entry of a policy's list: all that it names has to be as it says.

    An SNP guest is named by its ``launch_digest``, an SGX enclave by its ``mrenclave`` or by who
    signed it (``mrsigner`` with ``isv_prod_id`` and the lowest ``isv_svn``), a TD by its ``mrtd``
    and run-time registers. ``mrtd`` alone is the virtual firmware and says nothing of what runs on
    it: that has to be written, ``firmware_only: true``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    launch_digest: Hex48 | None = Field(None, description="SNP: the guest as it was launched")
    host_data: Hex32 | None = Field(None, description="SNP: what its host gave it at launch")
    mrenclave: Hex32 | None = Field(None, description="SGX: the enclave's code")
    mrsigner: Hex32 | None = Field(None, description="SGX: who signed the enclave")
    isv_prod_id: int | None = Field(None, ge=0, le=65535, description="SGX: the signer's product")
    isv_svn: int | None = Field(None, ge=0, le=65535, description="SGX: its lowest version")
    mrtd: Hex48 | None = Field(None, description="TDX: the virtual firmware")
    rtmr0: Hex48 | None = Field(None, description="TDX: the firmware's configuration")
    rtmr1: Hex48 | None = Field(None, description="TDX: boot loader and kernel")
    rtmr2: Hex48 | None = Field(None, description="TDX: kernel command line and initrd")
    rtmr3: Hex48 | None = Field(None, description="TDX: what the guest itself has measured")
    mrconfigid: Hex48 | None = Field(None, description="TDX: configuration, by its host")
    mrowner: Hex48 | None = Field(None, description="TDX: owner, by its host")
    mrownerconfig: Hex48 | None = Field(None, description="TDX: the owner's configuration")
    firmware_only: bool = Field(False, description="TDX: mrtd is enough")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        said = self.model_fields_set - {k for k, v in self if v is None or v is False}
        platforms = {_PLATFORM[name] for name in said if name in _PLATFORM}
        if len(platforms) != 1:
            raise ValueError("names one of launch_digest (SNP), mrenclave or mrsigner (SGX), mrtd")
        (platform,) = platforms
        if odd := sorted(said - _BESIDE[platform]):
            raise ValueError(f"{odd[0]} does not go with {platform}")
        if self.mrsigner and not self.mrenclave and None in (self.isv_prod_id, self.isv_svn):
            raise ValueError("mrsigner alone takes all that its owner ever signed: add isv_prod_id "
                             "and isv_svn")  # fmt: skip
        if self.mrtd:
            registers = said & {"rtmr0", "rtmr1", "rtmr2", "rtmr3"}
            if not registers and not self.firmware_only:
                raise ValueError("mrtd alone is the virtual firmware: add rtmr0 to rtmr3, or "
                                 "firmware_only: true")  # fmt: skip
            if registers and self.firmware_only:
                raise ValueError("firmware_only contradicts the registers beside it")
        return self

    @property
    def platform(self) -> Literal["snp", "sgx", "tdx"]:
        """Whose hardware measures so."""
        if self.launch_digest:
            return "snp"
        return "tdx" if self.mrtd else "sgx"

    def dump(self) -> dict[str, Any]:
        """What it says."""
        return self.model_dump(exclude_none=True, exclude_defaults=True)

    def holds(self, measured: Mapping[str, str | int]) -> bool:
        """Whether measured values (hex digits, numbers) are as this entry says."""
        for name, wanted in self.dump().items():
            if name == "firmware_only":
                continue
            value = measured.get(name)
            if name == "isv_svn":
                if not isinstance(value, int) or value < wanted:
                    return False
            elif value != wanted:
                return False
        return True
