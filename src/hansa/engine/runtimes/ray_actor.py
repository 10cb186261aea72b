"""An actor of Ray that hosts a site: what runs on the machine where Ray has put it.

Ray carries a key's fingerprint, and the order with which the site begins. Everything else (the
plan, what the site holds, messages between nodes, reports, checkpoints) goes over the site's own
links.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hansa.engine.job import Job
    from hansa.engine.links.keys import Key


class SiteActor:
    """Hosts a site, once; has a key that nobody else has."""

    def __init__(self) -> None:
        self._key: Key | None = None

    def key(self) -> dict[str, Any]:
        """Make this site's key.

        Returns:
            ``key``: its fingerprint; ``address``: of this machine; ``version``: of hansa here.
        """
        import ray

        from hansa import __version__
        from hansa.engine.links.keys import Key

        self._key = Key.generate("site")
        address = ray.util.get_node_ip_address()
        return {"key": self._key.fingerprint, "address": address, "version": __version__}

    def host(self, order: dict[str, Any]) -> int:
        """Take the site through the run; returns an exit status as :func:`serve` does."""
        from hansa.engine.runtimes.dealing import party, remove_bundles
        from hansa.engine.runtimes.ordered import host
        from hansa.engine.runtimes.site import Site
        from hansa.engine.runtimes.site_orders import unpack_service, unpack_ticket
        from hansa.engine.runtimes.supplies import Remote

        ticket = unpack_ticket(order["ticket"], self._key)
        ledgers: list[Remote] = []
        with tempfile.TemporaryDirectory(prefix="hansa-site-") as own:
            folder = Path(own)
            given = unpack_service(order["service"])
            part = given.part and {**given.part, "folder": str(folder / "part")}
            service = replace(given, checkpoints=folder / "checkpoints", part=part)

            def ledger(site: Site) -> Remote:
                ledgers.append(Remote(site, folder, service.careful))
                return ledgers[0]

            def build() -> Job:
                for name in order["supplies"]:
                    ledgers[0].fetch(name)
                job = party(folder, ticket.site)
                remove_bundles(folder, ticket.site)  # if this is killed nobody's examples stay
                return job

            return host(order, ticket, service, build, ledger)
