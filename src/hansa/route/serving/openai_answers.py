"""Answers of the OpenAI-like interface, in plain data: whole, in pieces, and errors."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from hansa.route.decoding import Generated
from hansa.route.serving.openai_requests import Asked

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error", 413: "invalid_request_error", 429: "rate_limit_error",
    503: "service_unavailable_error", 504: "timeout_error",
}  # fmt: skip
_CODES = {404: "model_not_found", 401: "invalid_api_key", 429: "rate_limit_exceeded"}


def error(status: int, text: str) -> dict[str, Any]:
    """An error."""
    kind = _TYPES.get(status, "server_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": _CODES.get(status)}}


def model_list(models: Sequence[tuple[str, str | None]], created: int) -> dict[str, Any]:
    """The base, ``auto``, and every adapter with its parent."""
    data = []
    for name, parent in models:
        entry = {"id": name, "object": "model", "created": created, "owned_by": "hansa"}
        data.append({**entry, "root": parent or name, "parent": parent})
    return {"object": "list", "data": data}


class Writer:
    """Answers to one request: they share a name and a time."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        chat = asked.path == "chat"
        self.id = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._object = "chat.completion" if chat else "text_completion"

    def whole(self, done: Sequence[tuple[dict[str, Any], Any]]) -> dict[str, Any]:
        """The answer to a request of completions.

        Args:
            done: (routing, answer) of each row.
        """
        choices = []
        for index, (routing, answer) in enumerate(done):
            text = answer.text if isinstance(answer, Generated) else str(answer)
            finish = answer.finish if isinstance(answer, Generated) else "stop"
            said: dict[str, Any] = {"text": text}
            if self._asked.path == "chat":
                said = {"message": {"role": "assistant", "content": text}}
            choices.append(
                {"index": index, **said, "finish_reason": finish, "logprobs": None,
                 "routing": routing}
            )  # fmt: skip
        answered: dict[str, Any] = {**self._head(self._object), "choices": choices}
        texts = [answer for _, answer in done if isinstance(answer, Generated)]
        if texts:
            asked = sum(one.prompt_tokens for one in texts)
            said_tokens = sum(len(one.tokens) for one in texts)
            answered["usage"] = {
                "prompt_tokens": asked, "completion_tokens": said_tokens,
                "total_tokens": asked + said_tokens,
            }  # fmt: skip
        if len(done) == 1:
            answered["routing"] = done[0][0]
        return answered

    def piece(
        self, index: int, text: str | None = None, routing: dict[str, Any] | None = None,
        finish: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """One event of a stream: the routing first, then text, the reason to finish last."""
        choice: dict[str, Any] = {"index": index, "finish_reason": finish}
        if self._asked.path == "chat":
            delta = {} if text is None else {"content": text}
            choice["delta"] = {"role": "assistant", "content": ""} if routing is not None else delta
            event = self._head("chat.completion.chunk")
        else:
            choice["text"] = text or ""
            event = self._head(self._object)
        event["choices"] = [choice]
        if routing is not None:
            choice["routing"] = event["routing"] = routing
        return event

    def embeddings(self, done: Sequence[tuple[dict[str, Any], Any]]) -> dict[str, Any]:
        """The answer to a request of embeddings."""
        data = []
        for index, (routing, numbers) in enumerate(done):
            value: Any = numbers
            if self._asked.encoding == "base64":
                value = base64.b64encode(np.asarray(numbers, dtype="<f4").tobytes()).decode()
            data.append(
                {"object": "embedding", "index": index, "embedding": value, "routing": routing}
            )
        answered: dict[str, Any] = {"object": "list", "model": self._asked.model, "data": data}
        if len(done) == 1:
            answered["routing"] = done[0][0]
        return answered

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self._created, "model": self._asked.model,
        }  # fmt: skip
