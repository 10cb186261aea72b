"""The clients' side: a ClientApp that plays its own part in a round's script."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from pydantic import PrivateAttr
from torch import Tensor

from hansa.base.errors import ConfigError, HansaError
from hansa.engine import Algorithm, Block, Ending, Job, Script, Share
from hansa.engine.holding import Holding
from hansa.engine.plan import Plan
from hansa.engine.runtimes.host import Host, Report
from hansa.engine.wrapper import Wrapper
from hansa.experiment import RunFile, prepare
from hansa.interop.flower.common import party
from hansa.interop.flower.letters import KIND, Letter
from hansa.interop.flower.memory import keep, recall
from hansa.interop.flower.posts import ClientPost
from hansa.interop.flower.settings import agreed, digest, for_flower, to_text


def client_app(run_file: str | Path | None = None) -> ClientApp:
    """A Flower ClientApp that does the local work of any federated method of hansa.

    Its ``partition-id`` is the client's number in the run, and so the part of the data it has.

    Args:
        run_file: settings that this client insists on; None: it takes those of the server.
    """
    app = ClientApp()
    own = None if run_file is None else to_text(for_flower(RunFile.load(Path(run_file))))

    @app.query(KIND)
    def tell(message: Message, context: Context) -> Message:
        return _reply(message, Letter({"client": _number(context), "of": _count(context)}))

    @app.train(KIND)
    def work(message: Message, context: Context) -> Message:
        try:
            letter = Letter.unpack(message.content)
            text = str(letter.facts["settings"])
            job = _own(agreed(text, own)).party(_number(context), letter.facts["common"])
            answer = visit(job, digest(text), _number(context), letter, context)
        except HansaError as error:  # the server is told what was wrong, not only that it was
            answer = Letter({"error": str(error)})
        return _reply(message, answer)

    return app


def visit(job: Job, run: str, client: int, letter: Letter, context: Context) -> Letter:
    """One client's part in a round, from what the server said to what it answers.

    Raises:
        RunError: with the round and the phase in which it happened.
    """
    t = int(letter.facts["round"])
    clients = job.nodes - job.servers
    block = job.block(np.array([client]))
    recall(block, context.state, run, t)
    post = ClientPost(client, clients, job.nodes, letter)
    part = Part.of(job.algorithm, post)
    # To the host, this round is the whole run.
    brief = replace(job, algorithm=part, rounds=t + 1)
    reports: list[Report] = []
    exchange = job.exchange(post)
    Host(brief, block, exchange, reports.append, lambda block, done: None).run(t)
    keep(block, context.state, run, t)
    report = {name: value for name, value in reports[0].items() if name != "measured"}
    return Letter({"report": report}, post.sent)


class Part(Wrapper):
    """An algorithm, as far as a client's letter takes it through a round."""

    _post: ClientPost = PrivateAttr()

    @classmethod
    def of(cls, algorithm: Algorithm, post: ClientPost) -> Part:
        """The part of whoever got the letter."""
        part = cls(algorithm=algorithm)
        part._post = post
        return part

    def round(self, block: Block, t: int) -> Script:
        """The round's script, up to what comes after this client has done its part."""
        script = self.algorithm.round(block, t)
        phase, came = 0, None
        while True:
            try:
                asked = script.send(came)
            except StopIteration as end:
                return end.value
            if not self._post.answers(asked, phase):
                script.close()
                return None
            came = yield asked
            phase += asked.turn is None

    def finish(self, block: Block, t: int) -> Ending:
        """Nothing: servers finish a run."""
        yield from ()
        return None

    def measured(self, block: Block, t: int) -> Generator[Share, Any, tuple[np.ndarray, Tensor]]:
        """What is there: nobody is asked for more once the letter has been answered."""
        yield from ()
        return block.models()


class Own:
    """What a process keeps of a run: the plan, and the examples of the clients that it acts for.

    Loading and dealing give everybody's examples; all but the client's own are let go at once.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._plan: Plan | None = None
        self._holdings: dict[int, Holding] = {}

    def party(self, client: int, common: Mapping[str, Any]) -> Job:
        """A client's job.

        Args:
            common: the server's figures.

        Raises:
            ConfigError: the run has no such client.
        """
        if self._plan is None or client not in self._holdings:
            job = prepare(RunFile.parse(json.loads(self._text)))
            clients = job.network.clients
            if not 0 <= client < clients:
                raise ConfigError("partition-id", client, f"the run has {clients} clients")
            self._holdings[client] = job.holding(np.array([client]))
            self._plan = self._plan or job.plan
        return party(self._plan, self._holdings[client], common)


@lru_cache(maxsize=1)
def _own(text: str) -> Own:
    """A process that is asked again need not load the data again."""
    return Own(text)


def _reply(message: Message, letter: Letter) -> Message:
    return Message(letter.pack(), reply_to=message)


def _number(context: Context) -> int:
    return int(context.node_config.get("partition-id", -1))


def _count(context: Context) -> int:
    return int(cast(Any, context.node_config.get("num-partitions", 0)))
