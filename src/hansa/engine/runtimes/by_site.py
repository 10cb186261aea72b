"""The runtime of sites that were started one by one, each by its owner."""

from __future__ import annotations

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.engine.job import Job
from hansa.engine.links.vouching import ByKey, ChannelKind
from hansa.engine.runtimes.runtime import Launch, Runtime


@register("node")
class BySite(Runtime):
    """Every site is started by hand, by ``hansa node run``: there is no coordinator.

    What stands for it in the folder of a site's run. A run file that all sites share may say what
    it likes here: each site has a file of its own that says where it is.
    """

    channel: ChannelKind = Field(ByKey(), description="what the site file says of it")

    def check(self, nodes: int) -> None:
        raise ConfigError(
            "runtime",
            "node",
            "is started site by site, not from one place",
            "hansa node run SITE.yaml at each site, or another runtime",
        )

    def run(self, job: Job, launch: Launch) -> None:
        self.check(job.nodes)
