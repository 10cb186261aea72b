"""A member as the aggregate sees it: where it is, how it has been lately, one call to it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from hansa.infer.serving.breaker import Breaker, Permit
from hansa.infer.serving.http_client import MemberClient, Unreachable
from hansa.infer.serving.http_reader import BadResponse, Response
from hansa.infer.serving.member_reply import (
    REFUSALS,
    BadReply,
    Gives,
    Reply,
    read_reply,
    refusal_of,
)
from hansa.serving.requests_in import DEADLINE_HEADER

NOT_NEEDED, OUT_OF_TIME, LEFT_ALONE = "not needed", "timeout", "breaker open"
_NEWS = 0.2  # what the last answer weighs in what is usual
_NEARLY = 0.95  # of its own time: whole but for what was spent on the way


@dataclass
class Outcome:
    """What a call came to.

    Attributes:
        status: ``ok``, or what went wrong, for people.
        reply: the rows, of a response that holds some.
        refused: what the member says is wrong with the request.
        seconds: that it took.
    """

    status: str
    reply: Reply | None = None
    refused: str | None = None
    seconds: float = 0.0


class Endpoint:
    """One member.

    Args:
        name: how answers and figures call it.
        model: its name there.
        deadline_s: seconds that a call may take.
        output, gives: see :func:`read_reply`.
    """

    def __init__(
        self,
        name: str,
        client: MemberClient,
        model: str,
        deadline_s: float,
        breaker: Breaker,
        output: str | None = None,
        gives: Gives = "probabilities",
    ) -> None:
        self.name, self.client, self.model = name, client, model
        self.deadline_s, self.breaker = deadline_s, breaker
        self.output, self.gives = output, gives
        self.usual_s = 0.0
        """What an answer has taken of late."""
        self._path = f"/v2/models/{model}/infer"

    async def ready(self, left_s: float) -> bool:
        """Whether it says that its model is ready."""
        try:
            path = f"/v2/models/{self.model}/ready"
            response = await self.client.call("GET", path, left_s=left_s)
        except (TimeoutError, Unreachable, BadResponse):
            return False
        return response.status == 200

    async def ask(
        self, body: bytes, batch: int, width: int, left_s: float, permit: Permit
    ) -> Outcome:
        """One call, which never raises but where it is cancelled.

        A time-out says something of the member only where it had all the time that is its own, so
        that nobody can have members left alone by asking in a hurry.
        """
        began = time.monotonic()
        granted = min(left_s, self.deadline_s)
        headers = {DEADLINE_HEADER: str(max(1, int(granted * 1000)))}
        try:
            response = await self.client.call("POST", self._path, body, headers, granted)
            outcome = self._outcome(response, batch, width)
        except TimeoutError:
            outcome = Outcome(OUT_OF_TIME)
        except (Unreachable, BadResponse) as error:
            kind = "unreachable" if isinstance(error, Unreachable) else "no response"
            outcome = Outcome(f"{kind}: {error}"[:200])
        except asyncio.CancelledError:
            waited = time.monotonic() - began
            (self.breaker.failed if waited >= _NEARLY * self.deadline_s else self.breaker.ended)(
                permit
            )
            raise
        hurried = outcome.status == OUT_OF_TIME and granted < _NEARLY * self.deadline_s
        if outcome.refused is not None or hurried:
            self.breaker.ended(permit)
        elif outcome.reply is not None and outcome.reply.valid.any():
            self.breaker.succeeded(permit)
        else:
            self.breaker.failed(permit)
        outcome.seconds = time.monotonic() - began
        self.usual_s += _NEWS * (outcome.seconds - self.usual_s)
        return outcome

    def _outcome(self, response: Response, batch: int, width: int) -> Outcome:
        if response.status in REFUSALS:
            return Outcome(f"http {response.status}", refused=refusal_of(response))
        if response.status != 200:
            return Outcome(f"http {response.status}")
        try:
            reply = read_reply(response, batch, width, self.output, self.gives)
        except BadReply as error:
            return Outcome(f"invalid: {error}")
        wrong = int((~reply.valid).sum())
        if not wrong:
            return Outcome("ok", reply)
        return Outcome(f"invalid: {wrong} of {batch} rows are no distributions", reply)
