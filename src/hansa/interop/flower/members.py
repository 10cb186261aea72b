"""Which Flower node is which client, and letters to them."""

from __future__ import annotations

import time
from logging import getLogger

from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from hansa.base.errors import ConfigError, RunError
from hansa.interop.flower.letters import KIND, Letter

_POLL_SECONDS = 1.0
log = getLogger("flwr")


class Members:
    """The Flower nodes of a run's clients.

    Flower numbers its nodes at random; a client's number in the run is its ``partition-id``.

    Args:
        wait: seconds in which all clients must be there.
        timeout: seconds in which a client must answer.
    """

    def __init__(self, grid: Grid, clients: int, wait: float, timeout: float) -> None:
        self.grid, self.timeout = grid, timeout
        self.nodes = _find(grid, clients, wait)
        self._client = {node: client for client, node in self.nodes.items()}

    def deliver(self, round: int, letters: dict[int, Letter]) -> dict[int, Letter]:
        """Take letters to clients and wait for all of their replies.

        Raises:
            RunError: a client failed or did not answer; says which, and why.
        """
        messages = [
            Message(
                letter.pack(),
                self.nodes[client],
                f"{MessageType.TRAIN}.{KIND}",
                group_id=str(round + 1),
            )
            for client, letter in letters.items()
        ]
        replies: dict[int, Letter] = {}
        for message in self.grid.send_and_receive(messages, timeout=self.timeout):
            client = self._client[message.metadata.src_node_id]
            problem = _problem(message)
            if not problem:
                replies[client] = Letter.unpack(message.content)
                problem = str(replies[client].facts.get("error", ""))
            if problem:
                raise RunError(problem, node=client, round=round + 1, phase="client")
        silent = sorted(letters.keys() - replies.keys())
        if silent:
            raise RunError(
                f"{len(silent)} clients did not answer within {self.timeout:g} s",
                node=silent[0],
                round=round + 1,
                phase="exchange",
            )
        return replies


def _find(grid: Grid, clients: int, wait: float) -> dict[int, int]:
    """The Flower node of each client.

    Raises:
        ConfigError: they do not come, or two say that they are the same.
    """
    until = time.monotonic() + wait
    said: dict[int, int] = {}
    while True:
        fresh = [node for node in grid.get_node_ids() if node not in said]
        asked = [Message(Letter({}).pack(), node, f"{MessageType.QUERY}.{KIND}") for node in fresh]
        for message in grid.send_and_receive(asked, timeout=max(1.0, until - time.monotonic())):
            problem = _problem(message)
            if problem:
                raise RunError(problem, phase="start")
            facts = Letter.unpack(message.content).facts
            said[message.metadata.src_node_id] = int(facts["client"])
            if 0 < facts["of"] < clients:
                raise _too_few(clients, f"Flower has {facts['of']}")
        node_of = {client: node for node, client in said.items()}
        if len(node_of) < len(said):
            raise ConfigError(
                "partition-id",
                sorted(said.values()),
                "is missing or not a different one for every Flower node",
                '--node-config "partition-id=0 num-partitions=4" with numbers from 0',
            )
        if node_of.keys() >= set(range(clients)):
            if len(node_of) > clients:
                log.warning("hansa: %d Flower nodes have no part in it", len(node_of) - clients)
            return {client: node_of[client] for client in range(clients)}
        if time.monotonic() >= until:
            raise _too_few(clients, f"after {wait:g} s there are {sorted(node_of)}")
        time.sleep(_POLL_SECONDS)


def _too_few(clients: int, there: str) -> ConfigError:
    return ConfigError(
        "nodes",
        clients,
        f"every client needs a Flower node, with partition-id 0 to {clients - 1}; {there}",
        "as many Flower nodes (in a simulation: num-supernodes) as nodes in the run file",
    )


def _problem(message: Message) -> str:
    """What went wrong with a message, or nothing."""
    if not message.has_error():
        return ""
    return f"Flower says: {message.error.reason or f'error {message.error.code}'}"
