"""What a working set would cost in an enclave whose protected memory is small: a model.

Older SGX machines have an enclave page cache (EPC) of some 100 to 200 MB; what does not fit is
paged, encrypted, page by page. Ice Lake and later have up to a terabyte, where nothing of this
matters (Gramine documentation, "Performance tuning and analysis"). Figures of this module follow
from the constants below; nothing here was measured on such hardware, and each result says so.
"""

from __future__ import annotations

from dataclasses import dataclass

MODELLED = "modelled, not measured"
PAGE = 4096
MIB = 1 << 20


@dataclass(frozen=True)
class EnclaveMemory:
    """A machine.

    Attributes:
        epc: bytes of protected memory that an enclave may use.
        page_seconds: of evicting one page and loading another.
        inside_factor: how much slower memory is that is protected and does not fit the caches.
        call_seconds: of leaving the enclave and coming back.
    """

    epc: int = 93 * MIB
    page_seconds: float = 12e-6
    inside_factor: float = 1.2
    call_seconds: float = 4e-6

    def __post_init__(self) -> None:
        for name in ("epc", "page_seconds", "call_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}: at least 0")
        if self.inside_factor < 1:
            raise ValueError(f"inside_factor = {self.inside_factor}: at least 1")


@dataclass(frozen=True)
class EnclaveCost:
    """What a piece of work would take in an enclave.

    Attributes:
        seconds: in all.
        paging, calls, memory: s of it that go to pages, to calls, and to slower memory.
        paged: pages that are loaded.
        note: what kind of figures these are.
    """

    seconds: float
    paging: float
    calls: float
    memory: float
    paged: int
    note: str = MODELLED

    def __str__(self) -> str:
        return (
            f"{self.seconds:.3g} s ({self.note}): {self.paging:.3g} s of {self.paged:,} pages, "
            f"{self.calls:.3g} s of calls, {self.memory:.3g} s of slower memory"
        )


def enclave_cost(
    machine: EnclaveMemory,
    *,
    seconds: float,
    working_set: int,
    touched: int,
    calls: int = 0,
    bound: float = 1.0,
) -> EnclaveCost:
    """What work would take that takes ``seconds`` outside.

    Pages are taken to be touched evenly over the working set, so that of each touch the share
    misses that does not fit. Sweeps over all of it, one after the other, miss more than that.

    Args:
        working_set: bytes that are in use.
        touched: bytes that are read or written in all, page after page; at least once over the
            working set if all of it is used.
        calls: system calls.
        bound: share of the time that waits for memory, 0 to 1.

    Raises:
        ValueError: a negative figure, or a share that is none.
    """
    for name, value in (("seconds", seconds), ("working_set", working_set), ("touched", touched),
                        ("calls", calls)):  # fmt: skip
        if value < 0:
            raise ValueError(f"{name} = {value}: at least 0")
    if not 0 <= bound <= 1:
        raise ValueError(f"bound = {bound}: 0 to 1")
    missing = max(0, working_set - machine.epc) / working_set if working_set else 0.0
    paged = int(touched / PAGE * missing)
    paging = paged * machine.page_seconds
    called = calls * machine.call_seconds
    memory = seconds * bound * (machine.inside_factor - 1)
    return EnclaveCost(seconds + paging + called + memory, paging, called, memory, paged)
