"""What runtimes have in common whose nodes live in workers: their settings, and a run from its deal
to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field, PrivateAttr

from hansa.base.errors import ConfigError
from hansa.engine.job import Job
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.vouching import BySecret, ChannelKind
from hansa.engine.runtimes.coordinator import Coordinator
from hansa.engine.runtimes.crashes import OnCrash
from hansa.engine.runtimes.dealing import deal, remove_dealt
from hansa.engine.runtimes.launcher import Launcher
from hansa.engine.runtimes.own_secrets import own_secrets
from hansa.engine.runtimes.runtime import Launch, Runtime, split_nodes
from hansa.engine.runtimes.strikes import Strike


class WorkerRuntime(Runtime):
    """Workers of one owner, each with a block of nodes, which a coordinator in this process watches
    over."""

    workers: int = Field(2, ge=1, description="how many workers the nodes are split over")
    deadline: float = Field(
        120.0, gt=0, description="seconds of silence from a worker or peer that end the run"
    )
    own_secrets: bool = Field(
        False,
        description="every worker draws what is its nodes' own (batches, noise, keys) from a "
        "random secret that the others do not know; the run cannot be repeated then",
    )
    on_crash: OnCrash = Field(
        "stop",
        description="what becomes of the run when a worker is lost: stop = it ends, and can be "
        "resumed; continue = the others go on without its nodes; restart = it is started again "
        "from its last checkpoint and takes part from a later round on",
    )
    channel: ChannelKind = Field(
        BySecret(),
        description="what workers prove to each other: secret = that they know the run's; tls = "
        "their keys, and what they say is encrypted; attested = beside that, on evidence of "
        "trusted hardware, what runs there",
    )
    _strikes: tuple[Strike, ...] = PrivateAttr(())  # faults that strike live workers, for tests

    def check(self, nodes: int) -> None:
        if self.workers > nodes:
            raise ConfigError(
                "workers", self.workers, f"is more than the {nodes} nodes", f"1 to {nodes}"
            )
        try:
            self.channel.check()
        except ConfigError as error:
            raise error.under("channel") from None

    def _host(
        self,
        job: Job,
        launch: Launch,
        launcher: Launcher,
        meet: Callable[[], Coordinator],
        carries: bool = False,
    ) -> None:
        """Run a job in workers, and close the launcher.

        Args:
            meet: makes the coordinator, once everything is dealt.
            carries: as of :func:`~hansa.engine.runtimes.dealing.deal`.

        Raises:
            RunError: a node, a worker or an exchange failed.
            KeyboardInterrupt: it was asked to end; the last round is saved.
        """
        folder = launch.collector.folder.path
        coordinator: Coordinator | None = None
        try:
            secrets = own_secrets(folder, self.workers) if self.own_secrets else None
            parts = split_nodes(job.nodes, self.workers, job.servers)
            deal(folder, job, parts, secrets, carries)
            coordinator = meet()
            coordinator.start()
            coordinator.listen()
        finally:
            try:
                if coordinator is not None:
                    coordinator.close()
            finally:
                launcher.close()
                remove_dealt(folder)
        if not coordinator.whole:
            raise KeyboardInterrupt

    def _coordinator(
        self, job: Job, launch: Launch, launcher: Launcher, **meeting: Any
    ) -> Coordinator:
        """Who gathers what the workers report.

        Args:
            meeting: ``key``, ``listen`` and ``depot`` of the coordinator, where workers are far.
        """
        return Coordinator(
            job,
            launch,
            self.workers,
            self.deadline,
            launcher,
            self.on_crash,
            self._links,
            channel=self.channel,
            **meeting,
        )

    @property
    def _links(self) -> LinkSettings:
        """Only those links are opened that are used: there are many pairs of workers."""
        return LinkSettings(eager=False, max=max(256, self.workers))
