"""Requests that wait, and the one thread that answers them, many at once.

All that touches the model or the slab runs in that thread, one after another: a batch sees the pool
as it is from its beginning to its end, and adapters come and go between batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

from hansa.base.errors import ConfigError
from hansa.route.answering import AnsweringModel, Query
from hansa.route.decoding import Decoding, Generated
from hansa.route.generating import GeneratingModel
from hansa.route.serving.served_pool import Chosen, ServedPool, Wish
from hansa.serving.requests_in import Refused

R = TypeVar("R")
Kind = Literal["generate", "choose", "embed"]
Event = tuple[str, Any]
"""What a job says on its way: ``("routing", facts)``, then ``("text", piece)`` of an answer."""


@dataclass(eq=False)
class Job:
    """One row.

    Attributes:
        prompt: text, or tokens.
        messages: of a chat, which the model's template makes a prompt of, where it has one.
        heard: is told events, in the loop's thread.
        done: (routing, answer): a :class:`Generated`, a candidate, or numbers.
        abandoned: nobody waits any more.
    """

    kind: Kind
    wish: Wish
    prompt: str | list[int]
    messages: tuple[dict[str, str], ...] = ()
    decoding: Decoding | None = None
    candidates: tuple[str, ...] = ()
    heard: Callable[[Event], None] | None = None
    done: asyncio.Future[tuple[dict[str, Any], Any]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    abandoned: bool = False


class BatchQueue:
    """Answers jobs in batches.

    Args:
        most: rows of a batch.
        wait_s: how long the first of a batch waits for others.
        room: jobs that may wait; more are refused.
        counted: is told (rows, seconds) of each batch.
    """

    def __init__(
        self, pool: ServedPool, most: int = 32, wait_s: float = 0.005, room: int = 1024,
        counted: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:  # fmt: skip
        self.pool, self.most, self.wait_s, self.room = pool, most, wait_s, room
        self._counted = counted
        self._waiting: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "hansa-route")
        self._worker: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        """Begin to answer; in the loop that serves."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """End, once what is under way is answered."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        self._thread.shutdown()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let jobs wait.

        Raises:
            Refused: 429; too many do. None of these waits then.
        """
        if len(self._waiting) + len(jobs) > self.room:
            raise Refused(429, "too many requests are waiting", {"Retry-After": "1"})
        self._waiting += jobs
        self._arrived.set()

    async def apart(self, call: Callable[[], R]) -> R:
        """Run something between two batches, such as loading an adapter."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _work(self) -> None:
        while True:
            await self._gathered()
            batch = self._next()
            if not batch:
                continue
            began = time.monotonic()
            call = partial(_answer, self.pool, batch, asyncio.get_running_loop())
            try:
                await asyncio.shield(self.apart(call))
            except Exception as error:  # noqa: BLE001 - whoever waits is told; others are served
                for job in batch:
                    _fail(job, error)
            self._counted(len(batch), time.monotonic() - began)

    async def _gathered(self) -> None:
        """Wait for a job, and for others: until the batch is full, or the first waited enough."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.wait_s):
                while len(self._waiting) < self.most:
                    self._arrived.clear()
                    await self._arrived.wait()

    def _next(self) -> list[Job]:
        """The jobs of the next batch: of one kind, in the order in which they came."""
        batch: list[Job] = []
        later: deque[Job] = deque()
        while self._waiting and len(batch) < self.most:
            job = self._waiting.popleft()
            if job.abandoned:
                continue
            (batch if not batch or job.kind == batch[0].kind else later).append(job)
        self._waiting = later + self._waiting
        return batch


def _answer(pool: ServedPool, batch: Sequence[Job], loop: asyncio.AbstractEventLoop) -> None:
    """Answer a batch, in the thread of the model."""
    model, ready = pool.model, list[tuple[Job, Chosen]]()
    for job, chosen in zip(batch, pool.choose([job.wish for job in batch]), strict=True):
        try:
            if isinstance(chosen, Refused):
                raise chosen
            _check(model, job)
        except (Refused, ConfigError) as error:
            loop.call_soon_threadsafe(_fail, job, error)
            continue
        ready.append((job, chosen))
        if job.heard is not None:
            loop.call_soon_threadsafe(job.heard, ("routing", chosen.routing))
    if not ready:
        return

    def heard(row: int, piece: str) -> None:
        if (hears := ready[row][0].heard) is not None:
            loop.call_soon_threadsafe(hears, ("text", piece))

    mixtures = [chosen.mixture for _, chosen in ready]
    answers: Sequence[Any]
    if batch[0].kind == "generate":
        assert isinstance(model, GeneratingModel)
        decodings = [job.decoding or model.decoding for job, _ in ready]
        prompts = [job.prompt for job, _ in ready]
        answers = model.generate(
            prompts, mixtures, decodings, heard, lambda row: ready[row][0].abandoned
        )
    elif batch[0].kind == "choose":
        answers = model.answers([Query(str(j.prompt), j.candidates) for j, _ in ready], mixtures)
    else:
        answers = model.embeddings([str(job.prompt) for job, _ in ready], mixtures).tolist()
    for (job, chosen), answer in zip(ready, answers, strict=True):
        loop.call_soon_threadsafe(_fulfil, job, (chosen.routing, answer))


def _check(model: AnsweringModel, job: Job) -> None:
    """Refuse a job alone for what would end the batch of all."""
    if job.kind == "generate":
        if not isinstance(model, GeneratingModel):
            raise Refused(400, "the base is an encoder: it chooses among candidates")
        if job.messages and getattr(model.tokenizer, "chat_template", None):
            job.prompt = _templated(model.tokenizer, job.messages)
        elif isinstance(job.prompt, str):
            job.prompt = model.prompt(job.prompt)
        model.check_length(len(job.prompt), job.decoding or model.decoding)


def _templated(tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[int]:
    from jinja2 import TemplateError

    try:
        return list(
            tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        )
    except TemplateError as error:  # it may refuse roles, or their order
        raise Refused(400, f"the model's chat template refuses it: {error}") from None


def _fulfil(job: Job, answer: tuple[dict[str, Any], Generated]) -> None:
    if not job.done.done():
        job.done.set_result(answer)


def _fail(job: Job, error: Exception) -> None:
    if not job.done.done():
        job.done.set_exception(error)
        job.done.exception()  # seen: whoever waited may have left
