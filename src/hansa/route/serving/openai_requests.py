"""Bodies of the OpenAI-like interface, checked: what is not supported is refused by its name.

Nothing is ignored that would change an answer: a client that asks for sampling, log-probabilities
or tools learns that they are not to be had here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hansa.base.errors import ConfigError
from hansa.route.decoding import Decoding
from hansa.serving.requests_in import Refused

Path = Literal["completions", "chat", "embeddings"]
MOST_PROMPTS, MOST_ADAPTERS, MOST_CANDIDATES = 256, 64, 1024

_OURS = {
    "completions": {"model", "prompt", "max_tokens", "stop", "stream", "adapters", "candidates"},
    "chat": {
        "model", "messages", "max_tokens", "max_completion_tokens", "stop", "stream", "adapters",
        "candidates",
    },
    "embeddings": {"model", "input", "encoding_format", "adapters"},
}  # fmt: skip
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (0,), "top_p": (1,), "n": (1,), "best_of": (1,), "echo": (False,),
    "logprobs": (False,), "presence_penalty": (0,), "frequency_penalty": (0,), "logit_bias": ({},),
    "suffix": ("",), "tools": ([],), "seed": (), "user": (), "metadata": (), "store": (False,),
    "stream_options": (), "response_format": ({"type": "text"},),
}  # fmt: skip
"""Fields of the interface that change nothing at these values; at any, where none stands here."""


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        texts: one row each; of a chat its messages are in ``messages`` too.
        routed_by: the text by which each row is routed.
        encoding: of embeddings.
    """

    path: Path
    model: str
    texts: tuple[str, ...]
    routed_by: tuple[str, ...]
    messages: tuple[dict[str, str], ...] = ()
    adapters: tuple[tuple[str, float], ...] = ()
    candidates: tuple[str, ...] = ()
    decoding: Decoding | None = None
    stream: bool = False
    encoding: Literal["float", "base64"] = "float"


def read(path: Path, body: bytes, max_tokens: int) -> Asked:
    """A request from its body.

    Args:
        max_tokens: of an answer where the request does not say.

    Raises:
        Refused: 400; it is not of the interface, or asks for what is not supported.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON: {error}") from None
    if not isinstance(said, Mapping):
        raise Refused(400, "the body is no object")
    for name, value in said.items():
        _check_field(path, name, value)
    model = said.get("model")
    if not isinstance(model, str) or not model:
        raise Refused(400, "model is missing: auto, base, or the name of an adapter")
    messages: tuple[dict[str, str], ...] = ()
    if path == "chat":
        messages = _messages(said.get("messages"))
        last = next(m["content"] for m in reversed(messages) if m["role"] == "user")
        texts: tuple[str, ...] = ("\n".join(m["content"] for m in messages),)
        by: tuple[str, ...] = (last,)
    else:
        texts = by = _texts(said.get("input" if path == "embeddings" else "prompt"), path)
    return Asked(
        path, model, texts, by, messages, _adapters(said.get("adapters")),
        _candidates(said.get("candidates")), _decoding(said, max_tokens),
        _flag(said, "stream"), _encoding(said.get("encoding_format")),
    )  # fmt: skip


def _check_field(path: Path, name: str, value: Any) -> None:
    if name in _OURS[path] or value is None:
        return
    if name not in _NEUTRAL:
        raise Refused(400, f"{name} is not supported by /v1/{_address(path)} here")
    neutral = _NEUTRAL[name]
    if neutral and not any(value == one for one in neutral):
        kept = " or ".join(map(json.dumps, neutral))
        raise Refused(
            400, f"{name} = {str(value)[:60]} is not supported: decoding is greedy; {kept}"
        )


def _address(path: Path) -> str:
    return "chat/completions" if path == "chat" else path


def _texts(value: Any, path: Path) -> tuple[str, ...]:
    name = "input" if path == "embeddings" else "prompt"
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise Refused(400, f"{name} is no text and no list of texts")
    if len(texts) > MOST_PROMPTS:
        raise Refused(400, f"{name} has {len(texts)} texts; {MOST_PROMPTS} at most")
    if not all(text.strip() for text in texts):
        raise Refused(400, f"{name} holds an empty text")
    return tuple(texts)


def _messages(value: Any) -> tuple[dict[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise Refused(400, "messages is no list of {role, content}")
    messages = []
    for k, entry in enumerate(value):
        role = entry.get("role") if isinstance(entry, Mapping) else None
        if role not in ("system", "developer", "user", "assistant"):
            raise Refused(400, f"messages[{k}] has no role of system, developer, user, assistant")
        messages.append({"role": str(role), "content": _content(entry.get("content"), k)})
    if not any(m["role"] == "user" and m["content"].strip() for m in messages):
        raise Refused(400, "messages holds nothing that a user says")
    return tuple(messages)


def _content(value: Any, k: int) -> str:
    if isinstance(value, list):
        parts = [p.get("text") if isinstance(p, Mapping) else None for p in value]
        kinds = {p.get("type") for p in value if isinstance(p, Mapping)}
        if kinds <= {"text"} and all(isinstance(part, str) for part in parts):
            return "".join(map(str, parts))
    if not isinstance(value, str):
        raise Refused(400, f"messages[{k}].content is no text and no list of parts of text")
    return value


def _adapters(value: Any) -> tuple[tuple[str, float], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not 0 < len(value) <= MOST_ADAPTERS:
        raise Refused(400, f"adapters is no list of 1 to {MOST_ADAPTERS} {{name, weight}}")
    pairs = []
    for k, entry in enumerate(value):
        if not isinstance(entry, Mapping) or set(entry) - {"name", "weight"}:
            raise Refused(400, f"adapters[{k}] is no {{name, weight}}")
        name, weight = entry.get("name"), entry.get("weight", 1.0)
        if not isinstance(name, str):
            raise Refused(400, f"adapters[{k}].name is no text")
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight):
            raise Refused(400, f"adapters[{k}].weight is no finite number")
        pairs.append((name, float(weight)))
    return tuple(pairs)


def _candidates(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    good = isinstance(value, list) and all(isinstance(c, str) and c for c in value)
    if not good or not 0 < len(value) <= MOST_CANDIDATES:
        raise Refused(400, f"candidates is no list of 1 to {MOST_CANDIDATES} texts")
    return tuple(value)


def _decoding(said: Mapping[str, Any], max_tokens: int) -> Decoding:
    name = "max_completion_tokens" if said.get("max_completion_tokens") else "max_tokens"
    most = said.get(name)
    most = max_tokens if most is None else most
    if not isinstance(most, int) or isinstance(most, bool):
        raise Refused(400, f"{name} is no whole number")
    stop = said.get("stop")
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(s, str) for s in stops) or len(stops) > 16:
        raise Refused(400, "stop is no text and no list of up to 16 texts")
    try:
        return Decoding(most, tuple(stops))
    except ConfigError as error:
        raise Refused(400, str(error)) from None


def _flag(said: Mapping[str, Any], name: str) -> bool:
    value = said.get(name)
    if value not in (None, True, False):
        raise Refused(400, f"{name} is neither true nor false")
    return bool(value)


def _encoding(value: Any) -> Literal["float", "base64"]:
    if value not in (None, "float", "base64"):
        raise Refused(400, "encoding_format is float or base64")
    return "base64" if value == "base64" else "float"
