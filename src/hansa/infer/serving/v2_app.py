"""The Open Inference Protocol (V2) over HTTP: a Starlette app for one model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from hansa.infer.serving.v2_messages import ServedModel, server_metadata
from hansa.serving.figures_text import TYPE, Figures
from hansa.serving.listening import BODY_LIMIT, Listening, Say, bound, listen
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
                return json_response({"error": refused.text}, refused.status, refused.headers)

        return answer

    def _admit(self, request: Request) -> None:
        if not request.url.path.startswith("/v2/health/"):
            admit(request, self._token)

    def _asked(self, request: Request) -> None:
        name, version = request.path_params["model"], request.path_params.get("version", "1")
        if name != self.model.name:
            raise Refused(404, f"there is no model {name!r}: this is {self.model.name!r}")
        if version != self.model.version:
            raise Refused(404, f"model {name!r} has no version {version!r}")

    async def _live(self, request: Request) -> Response:
        return json_response({"live": True})

    async def _ready(self, request: Request) -> Response:
        ready = await self.model.ready()
        return json_response({"ready": ready}, 200 if ready else 503)

    async def _server(self, request: Request) -> Response:
        return json_response(server_metadata())

    async def _about(self, request: Request) -> Response:
        self._asked(request)
        return json_response(self.model.metadata())

    async def _model_ready(self, request: Request) -> Response:
        self._asked(request)
        ready = await self.model.ready()
        return json_response({"name": self.model.name, "ready": ready}, 200 if ready else 503)

    async def _metrics(self, request: Request) -> Response:
        from starlette.responses import Response

        return Response(self.figures.text() + self.model.figures(), media_type=TYPE)

    async def _no_route(self, request: Request, error: Any) -> Response:
        status = error.status_code
        problem = "takes another method" if status == 405 else "is no path of the protocol"
        return json_response({"error": f"{request.url.path} {problem}"}, status)

    async def _broken(self, request: Request, error: Exception) -> Response:
        return json_response({"error": f"this was not expected: {type(error).__name__}"}, 500)

    async def _infer(self, request: Request) -> Response:
        began, status = time.monotonic(), 500
        try:
            self._asked(request)
            left = left_of(request.headers.get(DEADLINE_HEADER))
            asked = self.model.read(await self._body(request))
            answer = await self.model.infer(asked, left)
            said = answer.dump(self.model.name, asked)
            status = 200
            return json_response(said)
        except Refused as refused:
            status = refused.status
            raise
        finally:
            self.figures.add("hansa_requests_total", status=str(status))
            self.figures.observe("hansa_request_seconds", time.monotonic() - began)

    async def _body(self, request: Request) -> bytes:
        if "inference-header-content-length" in request.headers:
            raise Refused(415, "binary tensors are not spoken here: data as JSON")
        return await body_of(request, self.limit)


def serve(model: ServedModel, listening: Listening, started: Say) -> dict[str, Any]:
    """Serve until SIGTERM or Ctrl-C; returns what was served, in plain data.

    Args:
        started: is told the address once requests are answered.

    Raises:
        ConfigError: an option that cannot work.
    """
    token = listening.checked()
    with bound(listening.host, listening.port) as sock:
        model.warm()
        app = V2App(model, token, listening.limit)
        url = listen(app.app(), listening, sock, started)
    requests = int(app.figures.total("hansa_requests_total"))
    return {"url": url, "model": model.name, "requests": requests}
