"""The OpenAI-like interface over HTTP: a Starlette app for one pool.

``/v1/models``, ``/v1/completions``, ``/v1/chat/completions``, ``/v1/embeddings``, ``/health``,
``/metrics``; with an admin's token ``/v1/load_lora_adapter`` and ``/v1/unload_lora_adapter``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.route.decoding import Generated
from hansa.route.generating import GeneratingModel
from hansa.route.serving.adapter_loading import AdapterLoading
from hansa.route.serving.batch_queue import BatchQueue, Event, Job, Kind
from hansa.route.serving.openai_answers import Writer, error, model_list
from hansa.route.serving.openai_requests import Asked, Path, read
from hansa.route.serving.served_pool import AUTO, ServedPool, Wish
from hansa.serving.figures_text import TYPE, Figures
from hansa.serving.requests_in import (
    DEADLINE_HEADER,
    Refused,
    admit,
    body_of,
    json_response,
    left_of,
)

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

BODY_LIMIT = 1 << 20
Ask = Callable[["Request"], Awaitable["Response"]]
Done = tuple[dict[str, Any], Any]


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        body: bytes.
        timeout_s: until its answer is whole; less where the request says so.
        most: rows of a batch.
        wait_s: how long the first row of a batch waits for others.
        room: rows that may wait.
    """

    body: int = BODY_LIMIT
    timeout_s: float = 60.0
    most: int = 32
    wait_s: float = 0.005
    room: int = 1024


class OpenAIApp:
    """What answers the routes.

    Args:
        token: what whoever asks must bear, but for health; None: nobody is asked for it.
        admin: what whoever loads and unloads must bear; None: nobody can.
        loading: None: nobody can load.
    """

    def __init__(
        self, pool: ServedPool, token: str | None = None, admin: str | None = None,
        loading: AdapterLoading | None = None, limits: Limits | None = None,
    ) -> None:  # fmt: skip
        self.pool, self.limits = pool, limits or Limits()
        self._token = None if token is None else token.encode()
        self._admin = None if admin is None else admin.encode()
        self._loading = loading if admin is not None else None
        self._started = int(time.time())
        self._queue: BatchQueue | None = None
        self.figures = figures = Figures()
        figures.describe("hansa_route_requests_total", "counter", "Requests by path and status.")
        figures.describe("hansa_route_request_seconds", "histogram", "Seconds until the answer.")
        figures.describe("hansa_route_rows_total", "counter", "Rows by who was to answer.")
        figures.describe("hansa_route_abstained_total", "counter", "Routed rows left to the base.")
        figures.describe("hansa_route_tokens_total", "counter", "Tokens of prompts and answers.")
        figures.describe("hansa_route_batches_total", "counter", "Batches.")
        figures.describe("hansa_route_batch_rows_total", "counter", "Rows of all batches.")
        figures.describe("hansa_route_batch_seconds", "histogram", "Seconds of a batch.")
        figures.describe("hansa_route_waiting", "gauge", "Rows that wait.")
        figures.describe("hansa_route_adapters", "gauge", "Adapters in the pool.")

    def app(self) -> Starlette:
        """The app."""
        from starlette.applications import Starlette
        from starlette.routing import Route

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            limits = self.limits
            self._queue = BatchQueue(
                self.pool, limits.most, limits.wait_s, limits.room, self._counted
            )
            self._queue.start()
            try:
                yield
            finally:
                await self._queue.close()

        routes = [
            Route("/health", self._guarded(self._health), methods=["GET"]),
            Route("/metrics", self._guarded(self._metrics), methods=["GET"]),
            Route("/v1/models", self._guarded(self._models), methods=["GET"]),
            Route("/v1/models/{name:path}", self._guarded(self._model), methods=["GET"]),
        ]
        posts: list[tuple[str, Ask]] = [
            ("/v1/completions", partial(self._answer, "completions")),
            ("/v1/chat/completions", partial(self._answer, "chat")),
            ("/v1/embeddings", partial(self._answer, "embeddings")),
        ]
        if self._loading is not None:
            posts.append(("/v1/load_lora_adapter", self._load))
            posts.append(("/v1/unload_lora_adapter", self._unload))
        routes += [Route(path, self._guarded(ask), methods=["POST"]) for path, ask in posts]
        handlers: Any = {404: self._no_route, 405: self._no_route, 500: self._broken}
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)

    def _guarded(self, ask: Ask) -> Ask:
        """A route whose refusals are answers, and whose requests bear a token."""

        async def answer(request: Request) -> Response:
            began, status, path = time.monotonic(), 500, request.scope["route"].path
            try:
                if path.endswith("_lora_adapter"):
                    admit(request, self._admin)
                elif path != "/health":
                    admit(request, self._token)
                response = await ask(request)
                status = response.status_code
                return response
            except Refused as refused:
                status = refused.status
                return json_response(error(status, refused.text), status, refused.headers)
            except ConfigError as refused:
                status = 400
                return json_response(error(status, str(refused)), status)
            finally:
                self.figures.add("hansa_route_requests_total", path=path, status=str(status))
                self.figures.observe("hansa_route_request_seconds", time.monotonic() - began)

        return answer

    async def _health(self, request: Request) -> Response:
        return json_response({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        from starlette.responses import Response

        self.figures.set("hansa_route_waiting", len(self._waiting))
        self.figures.set("hansa_route_adapters", len(self.pool.model.slab))
        return Response(self.figures.text(), media_type=TYPE)

    async def _models(self, request: Request) -> Response:
        return json_response(model_list(self.pool.models(), self._started))

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        listed = [(one, parent) for one, parent in self.pool.models() if one == name]
        if not listed:
            self.pool.check(Wish(name, ""))
            raise Refused(404, f"there is no model {name!r}")
        return json_response(model_list(listed, self._started)["data"][0])

    async def _no_route(self, request: Request, raised: Any) -> Response:
        status = raised.status_code
        problem = "takes another method" if status == 405 else "is no path of this server"
        return json_response(error(status, f"{request.url.path} {problem}"), status)

    async def _broken(self, request: Request, raised: Exception) -> Response:
        return json_response(error(500, f"this was not expected: {type(raised).__name__}"), 500)

    async def _load(self, request: Request) -> Response:
        said = await self._admins(request, {"lora_name", "lora_path", "load_inplace"})
        assert self._loading is not None
        call = partial(
            self._loading.load, said.get("lora_name"), said.get("lora_path"),
            said.get("load_inplace"),
        )  # fmt: skip
        return json_response({"status": await self._waiting.apart(call)})

    async def _unload(self, request: Request) -> Response:
        said = await self._admins(request, {"lora_name"})
        assert self._loading is not None
        call = partial(self._loading.unload, said.get("lora_name"))
        return json_response({"status": await self._waiting.apart(call)})

    async def _admins(self, request: Request, fields: set[str]) -> dict[str, Any]:
        body = await body_of(request, self.limits.body)
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict) or set(said) - fields:
            raise Refused(400, f"the body is no object of {', '.join(sorted(fields))}")
        return said

    @property
    def _waiting(self) -> BatchQueue:
        if self._queue is None:
            raise Refused(503, "the server is starting")
        return self._queue

    async def _answer(self, path: Path, request: Request) -> Response:
        left = left_of(request.headers.get(DEADLINE_HEADER))
        end = time.monotonic() + min(left or self.limits.timeout_s, self.limits.timeout_s)
        model = self.pool.model
        usual = model.decoding.max_tokens if isinstance(model, GeneratingModel) else 1
        asked = read(path, await body_of(request, self.limits.body), usual)
        events: asyncio.Queue[tuple[int, Event]] | None = None
        if asked.stream:
            events = asyncio.Queue()
        jobs = self._jobs(asked, events)
        for job in jobs:
            self.pool.check(job.wish)
        self._waiting.submit(jobs)
        for job in jobs:
            self.figures.add("hansa_route_rows_total", asked=_asked(job.wish, self.pool))
        if events is not None:
            return await self._stream(asked, jobs, events, end)
        done = await self._whole(request, jobs, end)
        writer = Writer(asked)
        return json_response(
            writer.embeddings(done) if path == "embeddings" else writer.whole(done)
        )

    def _jobs(self, asked: Asked, events: asyncio.Queue[tuple[int, Event]] | None) -> list[Job]:
        kind: Kind = "embed" if asked.path == "embeddings" else "generate"
        model = self.pool.model
        if kind == "generate" and not isinstance(model, GeneratingModel):
            kind = "choose"
            if not asked.candidates:
                text = "the base is an encoder: it needs candidates to choose from"
                raise Refused(400, text)
        elif asked.candidates:
            raise Refused(400, "candidates are for encoders, and the base generates")
        if kind == "embed" and isinstance(model, GeneratingModel):
            raise Refused(400, "the base has no embeddings: it generates")
        jobs = []
        for row, (text, by) in enumerate(zip(asked.texts, asked.routed_by, strict=True)):
            wish = Wish(asked.model, by, asked.adapters, asked.candidates)
            heard = None if events is None else partial(_heard, events, row)
            jobs.append(
                Job(kind, wish, text, asked.messages, asked.decoding, asked.candidates, heard)
            )
        return jobs

    async def _whole(self, request: Request, jobs: Sequence[Job], end: float) -> list[Done]:
        answers = asyncio.gather(*(asyncio.shield(job.done) for job in jobs))
        gone = asyncio.ensure_future(_gone(request))
        try:
            left, both = max(0.0, end - time.monotonic()), set[asyncio.Future[Any]]()
            both |= {answers, gone}
            await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if answers.done():
                done = answers.result()
                self._count(done)
                return done
            if gone.done():
                raise Refused(499, "nobody waits for the answer any more")
            raise Refused(504, "the answer took too long")
        finally:
            answers.cancel()
            gone.cancel()
            _leave(jobs)

    async def _stream(
        self, asked: Asked, jobs: Sequence[Job], events: asyncio.Queue[tuple[int, Event]],
        end: float,
    ) -> Response:  # fmt: skip
        """Server-sent events; what is refused before the first of them is an error as ever."""
        from starlette.responses import StreamingResponse

        for row, job in enumerate(jobs):
            job.done.add_done_callback(partial(_ended, events, row))
        first = await self._next(jobs, events, end)
        if first[1][0] == "end" and (raised := first[1][1].exception()) is not None:
            _leave(jobs)
            raise raised
        body = self._pieces(Writer(asked), jobs, first, events, end)
        return StreamingResponse(body, media_type="text/event-stream")

    async def _next(
        self, jobs: Sequence[Job], events: asyncio.Queue[tuple[int, Event]], end: float
    ) -> tuple[int, Event]:
        try:
            return await asyncio.wait_for(events.get(), max(0.0, end - time.monotonic()))
        except TimeoutError:
            _leave(jobs)
            raise Refused(504, "the answer took too long") from None

    async def _pieces(
        self, writer: Writer, jobs: Sequence[Job], event: tuple[int, Event],
        events: asyncio.Queue[tuple[int, Event]], end: float,
    ) -> AsyncIterator[str]:  # fmt: skip
        open_rows = len(jobs)
        try:
            while True:
                row, (kind, value) = event
                if kind == "routing":
                    yield _event(writer.piece(row, routing=value))
                elif kind == "text":
                    yield _event(writer.piece(row, text=value))
                else:
                    if (raised := value.exception()) is not None:
                        raise raised
                    _, answer = done = value.result()
                    self._count([done])
                    if not isinstance(answer, Generated):
                        yield _event(writer.piece(row, text=str(answer)))
                    finish = answer.finish if isinstance(answer, Generated) else "stop"
                    yield _event(writer.piece(row, finish=finish))
                    open_rows -= 1
                    if not open_rows:
                        break
                event = await self._next(jobs, events, end)
        except (Refused, ConfigError) as raised:
            # Too late for a status: the last event says what happened, and no [DONE] follows.
            status = raised.status if isinstance(raised, Refused) else 400
            yield _event(error(status, str(raised)))
            return
        finally:
            _leave(jobs)
        yield "data: [DONE]\n\n"

    def _counted(self, rows: int, seconds: float) -> None:
        self.figures.add("hansa_route_batches_total")
        self.figures.add("hansa_route_batch_rows_total", rows)
        self.figures.observe("hansa_route_batch_seconds", seconds)

    def _count(self, done: Sequence[Done]) -> None:
        for routing, answer in done:
            if routing["abstained"]:
                self.figures.add("hansa_route_abstained_total")
            if isinstance(answer, Generated):
                self.figures.add("hansa_route_tokens_total", answer.prompt_tokens, of="prompt")
                self.figures.add("hansa_route_tokens_total", len(answer.tokens), of="answer")


async def _gone(request: Request) -> None:
    """Ends when the client closes the connection; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _heard(events: asyncio.Queue[tuple[int, Event]], row: int, event: Event) -> None:
    events.put_nowait((row, event))


def _ended(events: asyncio.Queue[tuple[int, Event]], row: int, done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        events.put_nowait((row, ("end", done)))


def _leave(jobs: Sequence[Job]) -> None:
    """Nobody waits any more for what is not answered yet."""
    for job in jobs:
        job.abandoned = not job.done.done()


def _event(said: dict[str, Any]) -> str:
    return f"data: {json.dumps(said, allow_nan=False, separators=(',', ':'))}\n\n"


def _asked(wish: Wish, pool: ServedPool) -> str:
    if wish.adapters:
        return "adapters"
    if wish.model == AUTO:
        return "router"
    return "adapter" if wish.model in pool.model.slab or wish.model in pool.aliases else "base"
