"""A Flower grid in this process, for small runs on digits.

Flower has no public way to run a ClientApp without a backend, so what is internal of it is touched
here and nowhere else.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

BASE: dict[str, Any] = {
    "seed": 5,
    "nodes": 6,
    "rounds": 4,
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [12]},
    "algorithm": {"name": "fedavg"},
    "train": {
        "local_steps": 3,
        "batch_size": 8,
        "strategy": "looped",
        "optimizer": {"name": "sgd", "lr": 0.1},
    },
    "evaluate": {"every": 2},
    "checkpoint": {"every": 1, "keep": 99},
}


def make_grid(app: Any, count: int, numbers: list[int] | None = None) -> Any:
    """Flower nodes in this process, asked one after the other, in no order to rely on.

    Args:
        app: the ClientApp of all of them.
        count: how many they are told that there are.
        numbers: their partition-ids; None: 0 to count - 1.
    """
    from flwr.app import Context, RecordDict
    from flwr.serverapp import Grid
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1

    class LocalGrid(Grid):
        def __init__(self) -> None:
            self.asked = 0
            self.contexts: dict[int, Context] = {}
            for k, number in enumerate(range(count) if numbers is None else numbers):
                told = {"partition-id": number, "num-partitions": count}
                self.contexts[9000 - 7 * k] = Context(1, 9000 - 7 * k, told, RecordDict(), {})

        def get_node_ids(self) -> Iterable[int]:
            return list(self.contexts)

        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            return [self._ask(message) for message in reversed(list(messages))]

        def _ask(self, message: Any) -> Any:
            self.asked += 1
            message.metadata.__dict__["_message_id"] = str(self.asked)
            return app(message, self.contexts[message.metadata.dst_node_id])

        def unused(self, *given: Any, **named: Any) -> Any:
            raise NotImplementedError

        set_run = create_message = push_messages = pull_messages = unused
        run = property(unused)

    return LocalGrid()


@pytest.fixture(scope="session")
def settings() -> Callable[..., dict[str, Any]]:
    """Settings of a small run with other ones in place of some."""

    def make(**changes: Any) -> dict[str, Any]:
        return {**BASE, **changes}

    return make


@pytest.fixture
def grid() -> Callable[..., Any]:
    return make_grid


@pytest.fixture
def run_file(tmp_path: Path, settings: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """A file with the settings of a small run."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(settings(**changes)))
        return path

    return write
