"""Many members as one model: asks all, waits for as many as it takes, answers once.

An answer is never silently less than it seems: it takes a quorum of valid rows, or is an error, and
it says of every member what came of it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa.infer.robust.answering import Answer, Answerer
from hansa.infer.serving.breaker import Permit
from hansa.infer.serving.endpoint import LEFT_ALONE, NOT_NEEDED, OUT_OF_TIME, Endpoint, Outcome
from hansa.infer.serving.gathering import Gathering
from hansa.infer.serving.v2_messages import InferAnswer, InferRequest, ServedModel
from hansa.infer.serving.v2_tensors import NamedTensor, TensorForm
from hansa.serving.figures_text import Figures
from hansa.serving.requests_in import Refused

READY_FOR_S = 1.0
"""How long what members said of being ready is believed."""


@dataclass(frozen=True)
class Waiting:
    """How long, and for how many.

    Attributes:
        deadline_s: seconds for a request in all.
        quorum: valid rows that an answer needs.
        early: whether an answer that can no longer change is given at once.
        most: examples in a request.
    """

    deadline_s: float
    quorum: int
    early: bool = True
    most: int = 1024


class AggregateModel(ServedModel):
    """The members' aggregate.

    Args:
        class_names: K texts.
        inputs: what members take; none: whatever comes is passed on.
    """

    platform = "hansa_aggregate"

    def __init__(
        self,
        name: str,
        endpoints: Sequence[Endpoint],
        answerer: Answerer,
        class_names: Sequence[str],
        waiting: Waiting,
        inputs: tuple[TensorForm, ...] = (),
    ) -> None:
        self.name, self.inputs = name, inputs
        self.endpoints, self.answerer, self.waiting = list(endpoints), answerer, waiting
        self.class_names = list(class_names)
        self.outputs = (
            TensorForm("probabilities", "FP64", (-1, len(self.class_names))),
            TensorForm("class", "BYTES", (-1,)),
            TensorForm("certified", "BOOL", (-1,)),
            TensorForm("f_star", "INT64", (-1,)),
            TensorForm("abstained", "BOOL", (-1,)),
        )
        self.counted = _figures(self.endpoints)
        self._ready: tuple[float, bool] | None = None
        self._uncounted: list[Gathering] = []

    async def ready(self) -> bool:
        """Whether a quorum of members is."""
        now = time.monotonic()
        if self._ready is None or now - self._ready[0] > READY_FOR_S:
            left = min(self.waiting.deadline_s, READY_FOR_S)
            said = await asyncio.gather(*(e.ready(left) for e in self.endpoints))
            self._ready = now, sum(said) >= self.waiting.quorum
        self.counted.set("hansa_ready", float(self._ready[1]))
        return self._ready[1]

    def warm(self) -> None:
        least, width = self.answerer.least, self.answerer.width
        self.answerer.answer(np.full((least, width), 1 / width), range(least))

    async def close(self) -> None:
        for endpoint in self.endpoints:
            await endpoint.client.close()

    async def infer(self, request: InferRequest, left_s: float | None) -> InferAnswer:
        began = time.monotonic()
        batch = request.batch
        if batch > self.waiting.most:
            raise Refused(413, f"{batch} examples are more than {self.waiting.most} a request")
        left = min(self.waiting.deadline_s, math.inf if left_s is None else left_s)
        members = len(self.endpoints)
        waiting = self.waiting
        gathering = Gathering(self.answerer, batch, members, waiting.quorum, waiting.early)
        late = await self._ask(gathering, request, left)
        whole = gathering.finish()
        seconds = time.monotonic() - began
        self._uncounted.append(gathering)
        asyncio.get_running_loop().call_soon(self._count_all)  # once the answer is on its way
        if not whole:
            raise self._too_few(gathering, late, left)
        answers = [answer for answer in gathering.answers if answer is not None]
        return InferAnswer(self._outputs(answers), self._parameters(gathering, answers, seconds))

    async def _ask(self, gathering: Gathering, request: InferRequest, left: float) -> bool:
        """Ask members until the answers stand; whether the time ran out before.

        Members that are left alone are asked too where all others together are too few: they may
        be back.
        """
        end = time.monotonic() + left
        permits, alone = {}, []
        for k, endpoint in enumerate(self.endpoints):
            permit = endpoint.breaker.permit()
            if permit is None:
                gathering.outcomes[k] = Outcome(LEFT_ALONE)
                alone.append(k)
            else:
                permits[k] = permit
        late = await self._wave(gathering, request.body, permits, left)
        if late or not alone or not gathering.short():
            return late
        forced = {k: self.endpoints[k].breaker.forced() for k in alone}
        return await self._wave(gathering, request.body, forced, end - time.monotonic())

    async def _wave(
        self, gathering: Gathering, body: bytes, permits: dict[int, Permit], left: float
    ) -> bool:
        """Ask some members at once; whether the time ran out before the answers stood."""
        batch, width = len(gathering.answers), self.answerer.width
        gathering.awaits(permits)

        async def one(k: int) -> None:
            outcome = await self.endpoints[k].ask(body, batch, width, left, permits[k])
            gathering.took(k, outcome)

        # Who usually takes longest is asked first: the others' requests are written meanwhile.
        order = sorted(permits, key=lambda k: -self.endpoints[k].usual_s)
        tasks = [asyncio.ensure_future(one(k)) for k in order]
        late = False
        try:
            async with asyncio.timeout(left):
                await gathering.settled.wait()
        except TimeoutError:
            late = True
        finally:
            for task in tasks:
                task.cancel()
        for k in gathering.pending:
            gathering.outcomes[k] = Outcome(OUT_OF_TIME if late else NOT_NEEDED)
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
        return late

    def _outputs(self, answers: list[Answer]) -> tuple[NamedTensor, ...]:
        names = [
            "" if answer.class_index is None else self.class_names[answer.class_index]
            for answer in answers
        ]
        silent = [answer.class_index is None for answer in answers]
        columns = (
            np.stack([answer.scores for answer in answers]),
            np.array(names, dtype=object),
            np.array([answer.certified for answer in answers]),
            np.array([answer.f_star for answer in answers], dtype=np.int64),
            np.array(silent),
        )
        return tuple(
            NamedTensor(form.name, form.datatype, column)
            for form, column in zip(self.outputs, columns, strict=True)
        )

    def _parameters(
        self, gathering: Gathering, answers: list[Answer], seconds: float
    ) -> dict[str, str | int | float | bool]:
        said: dict[str, str | int | float | bool] = {
            "members": len(self.endpoints),
            "f": self.answerer.f,
            "quorum": self.waiting.quorum,
            "missing": max(answer.missing for answer in answers),
            "early": all(answer.early for answer in answers),
            "latency_ms": round(1000 * seconds, 3),
        }
        for k, endpoint in enumerate(self.endpoints):
            outcome = gathering.outcomes[k]
            said[f"member.{endpoint.name}"] = outcome.status
            if outcome.seconds:
                said[f"member.{endpoint.name}.ms"] = round(1000 * outcome.seconds, 3)
        return said

    def _too_few(self, gathering: Gathering, late: bool, left: float) -> Refused:
        """Why there is no answer."""
        refusals = [o.refused for o in gathering.outcomes.values() if o.refused is not None]
        if len(refusals) > self.answerer.f:  # an honest one among them
            text, _ = Counter(refusals).most_common(1)[0]
            return Refused(400, f"{len(refusals)} members refuse the request, such as: {text}")
        least = int(gathering.valid.sum(1).min())
        statuses = "; ".join(
            f"{endpoint.name} {gathering.outcomes[k].status}"
            for k, endpoint in enumerate(self.endpoints)
        )
        text = f"{least} of {len(self.endpoints)} members gave valid rows"
        text += f", and {self.waiting.quorum} are needed"
        if late:
            return Refused(504, f"{text} when {1000 * left:.0f} ms had passed: {statuses}")
        wait = min((e.breaker.wait_left for e in self.endpoints if e.breaker.wait_left), default=1)
        return Refused(503, f"{text}: {statuses}", {"Retry-After": str(max(1, math.ceil(wait)))})

    def _count_all(self) -> None:
        while self._uncounted:
            self._count(self._uncounted.pop())

    def _count(self, gathering: Gathering) -> None:
        for answer in gathering.answers if None not in gathering.answers else ():
            assert answer is not None
            self.counted.add(
                "hansa_answers_total",
                certified=str(answer.certified).lower(),
                early=str(answer.early).lower(),
                abstained=str(answer.class_index is None).lower(),
            )
        for k, endpoint in enumerate(self.endpoints):
            outcome = gathering.outcomes[k]
            kind = outcome.status.partition(":")[0]
            self.counted.add("hansa_member_calls_total", member=endpoint.name, outcome=kind)
            if outcome.seconds:
                self.counted.observe("hansa_member_seconds", outcome.seconds, member=endpoint.name)
            wrong = 0
            if outcome.reply is not None:
                wrong = int((~outcome.reply.valid).sum())
            elif kind == "invalid":
                wrong = len(gathering.answers)
            if wrong:
                self.counted.add("hansa_invalid_rows_total", wrong, member=endpoint.name)

    def figures(self) -> str:
        """Prometheus' text."""
        self._count_all()
        for endpoint in self.endpoints:
            state = {"closed": 0, "half_open": 1, "open": 2}[endpoint.breaker.state]
            self.counted.set("hansa_breaker_state", state, member=endpoint.name)
        return self.counted.text()


def _figures(endpoints: Sequence[Endpoint]) -> Figures:
    figures = Figures()
    for name, kind, text in (
        ("hansa_answers_total", "counter", "Examples answered."),
        ("hansa_member_calls_total", "counter", "Calls to members by what came of them."),
        ("hansa_invalid_rows_total", "counter", "Rows of members that are no distributions."),
        ("hansa_breaker_state", "gauge", "0 closed, 1 half open, 2 open."),
        ("hansa_ready", "gauge", "Whether a quorum of members was ready when last asked."),
        ("hansa_member_seconds", "histogram", "Seconds until a member had answered."),
    ):
        figures.describe(name, kind, text)
    for endpoint in endpoints:
        figures.add("hansa_invalid_rows_total", 0, member=endpoint.name)
    return figures
