"""The Open Inference Protocol (V2) over HTTP: a Starlette app for one model."""

from __future__ import annotations

import contextlib
import hmac
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from hansa.infer.serving.figures_text import TYPE, Figures
from hansa.infer.serving.v2_messages import (
    DEADLINE_HEADER,
    InferRequest,
    ServedModel,
    server_metadata,
)
from hansa.infer.serving.v2_tensors import Refused

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

BODY_LIMIT = 8 << 20


class V2App:
    """What answers the routes.

    Args:
        token: what whoever asks must bear, but for health; None: nobody is asked for it.
        limit: bytes of a request's body at most.
    """

    def __init__(
        self, model: ServedModel, token: str | None = None, limit: int = BODY_LIMIT
    ) -> None:
        self.model, self.limit = model, limit
        self._token = None if token is None else token.encode()
        self.figures = Figures()
        self.figures.describe("hansa_requests_total", "counter", "Requests by their status.")
        self.figures.describe("hansa_request_seconds", "histogram", "Seconds until the answer.")

    def app(self) -> Starlette:
        """The app."""
        from starlette.applications import Starlette
        from starlette.routing import Route

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            try:
                yield
            finally:
                await self.model.close()

        model = "/v2/models/{model}"
        routes = [("/v2/health/live", self._live), ("/v2/health/ready", self._ready)]
        for base in (model, f"{model}/versions/{{version}}"):
            routes += [(base, self._about), (f"{base}/ready", self._model_ready)]
        routes += [("/v2", self._server), ("/metrics", self._metrics)]
        found = [Route(path, self._told(ask), methods=["GET"]) for path, ask in routes]
        for base in (model, f"{model}/versions/{{version}}"):
            found.append(Route(f"{base}/infer", self._told(self._infer), methods=["POST"]))
        handlers: Any = {404: self._no_route, 405: self._no_route, 500: self._broken}
        return Starlette(routes=found, lifespan=lifespan, exception_handlers=handlers)

    def _told(
        self, ask: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A route whose refusals are answers, and whose requests bear the token."""

        async def answer(request: Request) -> Response:
            try:
                self._admit(request)
                return await ask(request)
            except Refused as refused:
                return _json({"error": refused.text}, refused.status, refused.headers)

        return answer

    def _admit(self, request: Request) -> None:
        if self._token is None or request.url.path.startswith("/v2/health/"):
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(token.strip().encode("utf-8", "replace"), self._token)
        if scheme.lower() != "bearer" or not right:
            raise Refused(
                401, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"}
            )

    def _asked(self, request: Request) -> None:
        name, version = request.path_params["model"], request.path_params.get("version", "1")
        if name != self.model.name:
            raise Refused(404, f"there is no model {name!r}: this is {self.model.name!r}")
        if version != self.model.version:
            raise Refused(404, f"model {name!r} has no version {version!r}")

    async def _live(self, request: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, request: Request) -> Response:
        ready = await self.model.ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def _server(self, request: Request) -> Response:
        return _json(server_metadata())

    async def _about(self, request: Request) -> Response:
        self._asked(request)
        return _json(self.model.metadata())

    async def _model_ready(self, request: Request) -> Response:
        self._asked(request)
        ready = await self.model.ready()
        return _json({"name": self.model.name, "ready": ready}, 200 if ready else 503)

    async def _metrics(self, request: Request) -> Response:
        from starlette.responses import Response

        return Response(self.figures.text() + self.model.figures(), media_type=TYPE)

    async def _no_route(self, request: Request, error: Any) -> Response:
        status = error.status_code
        problem = "takes another method" if status == 405 else "is no path of the protocol"
        return _json({"error": f"{request.url.path} {problem}"}, status)

    async def _broken(self, request: Request, error: Exception) -> Response:
        return _json({"error": f"this was not expected: {type(error).__name__}"}, 500)

    async def _infer(self, request: Request) -> Response:
        began, status = time.monotonic(), 500
        try:
            self._asked(request)
            left = left_of(request.headers.get(DEADLINE_HEADER))
            asked = InferRequest.read(await self._body(request), self.model.inputs)
            answer = await self.model.infer(asked, left)
            said = answer.dump(self.model.name, asked)
            status = 200
            return _json(said)
        except Refused as refused:
            status = refused.status
            raise
        finally:
            self.figures.add("hansa_requests_total", status=str(status))
            self.figures.observe("hansa_request_seconds", time.monotonic() - began)

    async def _body(self, request: Request) -> bytes:
        if "inference-header-content-length" in request.headers:
            raise Refused(415, "binary tensors are not spoken here: data as JSON")
        size = request.headers.get("content-length", "")
        too_long = Refused(413, f"the body is longer than {self.limit} bytes")
        if size.isdigit() and int(size) > self.limit:
            raise too_long
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self.limit:
                raise too_long
        return bytes(body)


def left_of(header: str | None) -> float | None:
    """Seconds that a header of milliseconds leaves.

    Raises:
        Refused: it is no number of them; 504 where none is left.
    """
    if header is None:
        return None
    try:
        left = float(header)
    except ValueError:
        left = math.nan
    if not math.isfinite(left):
        raise Refused(400, f"{DEADLINE_HEADER}: {header[:40]!r} is no number of milliseconds")
    if left <= 0:
        raise Refused(504, "the deadline has passed already")
    return left / 1000


def _json(said: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    from starlette.responses import Response

    text = json.dumps(said, allow_nan=False, separators=(",", ":"))
    return Response(text, status, headers, media_type="application/json")
