"""How an answer is decoded, and one answer on its way: tokens, text, what is said of it so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hansa.base.errors import ConfigError

Finish = Literal["stop", "length"]
Heard = Callable[[int, str], None]
"""Is told (row, piece of text) as soon as the piece can no longer change."""


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding, and where it ends.

    Attributes:
        max_tokens: of the answer.
        stop: texts before which the answer ends.

    Raises:
        ConfigError: naming the field.
    """

    max_tokens: int = 32
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError("max_tokens", self.max_tokens, "is less than 1", "1 or more")
        if not all(self.stop):
            raise ConfigError("stop", list(self.stop), "holds an empty text", "texts to end before")


@dataclass
class Generated:
    """An answer.

    Attributes:
        prompt_tokens: tokens of the query.
        finish: ``stop``: the model or a stop text ended it; ``length``: the limit did.
    """

    prompt_tokens: int
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None


class RowDecoder:
    """One row's answer as its tokens come.

    Args:
        ends: tokens that end an answer.
        heard: is told each piece.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt: Sequence[int],
        decoding: Decoding,
        ends: frozenset[int],
        heard: Callable[[str], None] | None = None,
    ) -> None:
        self.answer = Generated(len(prompt))
        self._tokenizer, self._decoding, self._ends = tokenizer, decoding, ends
        self._heard, self._said = heard, 0

    def take(self, token: int) -> bool:
        """Take the next token; whether the answer is complete."""
        answer = self.answer
        if token in self._ends:
            return self._finish("stop")
        answer.tokens.append(token)
        if self._decoding.stop or self._heard is not None:
            answer.text = self._tokenizer.decode(answer.tokens, skip_special_tokens=True)
            cuts = [answer.text.find(stop) for stop in self._decoding.stop]
            if (cut := min((c for c in cuts if c >= 0), default=math.inf)) < math.inf:
                answer.text = answer.text[: int(cut)]
                return self._finish("stop", decoded=True)
            self._say(self._settled(answer.text))
        if len(answer.tokens) >= self._decoding.max_tokens:
            return self._finish("length")
        return False

    def _finish(self, finish: Finish, decoded: bool = False) -> bool:
        answer = self.answer
        if not decoded:
            answer.text = self._tokenizer.decode(answer.tokens, skip_special_tokens=True)
        answer.finish = finish
        self._say(len(answer.text))
        return True

    def _settled(self, text: str) -> int:
        """How much of a text can no longer change: no part of a letter, no beginning of a stop."""
        end = len(text.rstrip("\ufffd"))
        for stop in self._decoding.stop:
            for size in range(min(len(stop) - 1, end), 0, -1):
                if text[:end].endswith(stop[:size]):
                    end -= size
                    break
        return end

    def _say(self, end: int) -> None:
        if self._heard is not None and end > self._said:
            self._heard(self.answer.text[self._said : end])
            self._said = end
