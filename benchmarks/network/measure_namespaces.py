"""Networks of one's own on one machine: namespaces of the kernel, joined by a bridge.

Needs root, ``ip`` of iproute2 and a kernel with namespaces, veth and bridges; :func:`lacking` says
what is missing. Names carry the process's id, so that several can run at once.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ETHERNET, HEADERS, TIMESTAMPS = 14, 20 + 20, 12
"""Bytes of a packet that are no payload: Ethernet's, which the loopback does not count, IPv4's and
TCP's, and what timestamps add where they are on. Packets that begin a connection have a few more.
"""


@functools.cache
def lacking() -> str:
    """Why no namespaces can be made here; empty: they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    if shutil.which("ip") is None:
        return "no ip command (iproute2)"
    try:
        with Lab(2):
            return ""
    except (subprocess.CalledProcessError, OSError) as error:
        words = getattr(error, "stderr", None) or str(error)
        return f"this kernel makes no network namespaces: {words.strip()}"


@functools.cache
def lacking_rates() -> str:
    """Why the kernel cannot limit a rate here; empty: it can."""
    if lacking() or shutil.which("tc") is None:
        return lacking() or "no tc command (iproute2)"
    try:
        with Lab(1) as lab:
            lab.limit(0, 1e6)
        return ""
    except subprocess.CalledProcessError as error:
        return f"this kernel has no tbf: {error.stderr.strip()}"


def do(*words: str) -> str:
    """Run a command and return what it said.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Lab:
    """Hosts, each a network namespace with one interface to a common bridge.

    Nothing is lost here, so TCP sends no loss probes (RFC 8985, section 7): where processes wait
    for a core, acknowledgements are late and each probe repeats up to 64 KiB in vain.

    Args:
        hosts: how many; host k has the address ``10.77.0.(k + 1)``.
    """

    def __init__(self, hosts: int) -> None:
        self.hosts, self._tag = hosts, f"{os.getpid():x}"[-6:]
        self._hub = f"hx{self._tag}"

    def name(self, host: int) -> str:
        """The namespace of a host."""
        return f"h{host}x{self._tag}"

    @staticmethod
    def address(host: int) -> str:
        """The address of a host."""
        return f"10.77.{host // 250}.{host % 250 + 1}"

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _build(self) -> None:
        do("ip", "netns", "add", self._hub)
        hub = ("ip", "-n", self._hub)
        do(*hub, "link", "add", "name", "bridge0", "type", "bridge")
        do(*hub, "link", "set", "bridge0", "up")
        for host in range(self.hosts):
            name = self.name(host)
            do("ip", "netns", "add", name)
            do("ip", "-n", name, "link", "set", "lo", "up")
            probes = "/proc/sys/net/ipv4/tcp_early_retrans"
            do("ip", "netns", "exec", name, "sh", "-c", f"echo 0 > {probes}")
            do("ip", "-n", name, "link", "add", "name", "eth0", "type", "veth",
               "peer", "name", f"p{host}", "netns", self._hub)  # fmt: skip
            do("ip", "-n", name, "address", "add", f"{self.address(host)}/16", "dev", "eth0")
            do("ip", "-n", name, "link", "set", "eth0", "up")
            do(*hub, "link", "set", f"p{host}", "master", "bridge0")
            do(*hub, "link", "set", f"p{host}", "up")

    def limit(self, host: int, rate: float, burst: int = 65536) -> None:
        """Let a host send at most so many bytes a second (the kernel's token bucket, ``tbf``)."""
        do("tc", "-n", self.name(host), "qdisc", "replace", "dev", "eth0", "root", "tbf",
           "rate", f"{8 * rate:.0f}bit", "burst", str(burst), "latency", "2s")  # fmt: skip

    def start(self, host: int, words: Sequence[str], **more: Any) -> subprocess.Popen[str]:
        """Start a command at a host."""
        return subprocess.Popen(["ip", "netns", "exec", self.name(host), *words], text=True, **more)

    def counted(self, host: int, device: str = "eth0") -> tuple[int, int]:
        """Bytes that a host's device has sent and received, with all headers."""
        return self._figure(host, device, "tx_bytes"), self._figure(host, device, "rx_bytes")

    def headers(self, host: int, device: str = "eth0") -> int:
        """Bytes of :meth:`counted` that a host's device has sent as headers of packets."""
        each = HEADERS + ETHERNET * (device != "lo")
        each += TIMESTAMPS * (self._read(host, "/proc/sys/net/ipv4/tcp_timestamps") > 0)
        return each * self._figure(host, device, "tx_packets")

    def _figure(self, host: int, device: str, name: str) -> int:
        return self._read(host, f"/sys/class/net/{device}/statistics/{name}")

    def _read(self, host: int, file: str) -> int:
        return int(do("ip", "netns", "exec", self.name(host), "cat", file))

    def close(self) -> None:
        """Take everything down; what runs at hosts has to have ended."""
        for name in [self._hub, *(self.name(host) for host in range(self.hosts))]:
            if Path("/run/netns", name).exists():
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
