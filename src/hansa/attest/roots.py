"""The vendors' roots, pinned: what every chain of certificates has to end at.

The files in ``pinned/`` are public certificates of the vendors, as they publish them:
``amd_*.pem`` from AMD's key distribution service (kdsintf.amd.com, ``/vcek/v1/PRODUCT/cert_chain``
and ``/vlek/...``), the root key (ARK) first, then what it has signed for chips' own keys (ASK) and
for providers' keys (ASVK), which are no roots and only spare the sender some bytes;
``intel_sgx_root.pem`` from Intel (certificates.trustedservices.intel.com). Nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from hansa.attest.certificates import Certificate, read_bundle
from hansa.attest.policy import SNP_PRODUCTS


@dataclass(frozen=True)
class Roots:
    """Where trust begins.

    Attributes:
        snp: AMD's root key of each product.
        snp_between: certificates that may stand between a root and a leaf; not trusted by
            themselves.
        intel: Intel's root.
    """

    snp: Mapping[str, Certificate]
    snp_between: tuple[Certificate, ...]
    intel: Certificate


@lru_cache(1)
def pinned() -> Roots:
    """The roots that come with this package."""
    folder = resources.files("hansa.attest") / "pinned"
    amd = {
        product: read_bundle((folder / f"amd_{product.lower()}.pem").read_bytes())
        for product in SNP_PRODUCTS
    }
    (intel,) = read_bundle((folder / "intel_sgx_root.pem").read_bytes())
    return Roots(
        {product: bundle[0] for product, bundle in amd.items()},
        tuple(each for bundle in amd.values() for each in bundle[1:]),
        intel,
    )
