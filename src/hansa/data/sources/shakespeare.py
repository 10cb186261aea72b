"""Next-character prediction on Shakespeare's plays, by speaking role (as LEAF's Shakespeare)."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import DataError
from hansa.data.fetch import Remote, fetch
from hansa.data.raw import Arrays, RawSplits
from hansa.data.source import DataSource

REMOTE = Remote(
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
# 92 ids as in the reference LSTM: 0 is every other character, then the newline and printable
# ASCII without five marks that no play uses.
ALPHABET = "\n " + string.digits + string.ascii_letters + "!\"#$%&'()*+,-./:;<=>?@[]_{}"
VOCABULARY = len(ALPHABET) + 1
TEST_SHARE = 0.2


@register("shakespeare", paper="Caldas et al.", year=2018, url="https://arxiv.org/abs/1812.01097")
class Shakespeare(DataSource):
    """1.1 MB of Shakespeare's plays: 80 characters in, the next one out; groups are the roles.

    The text is the tiny-shakespeare of char-rnn. A role's speeches are joined in the order of
    the text; its last fifth is for testing, and no window reaches over the border. Roles of
    the same name in different plays are one.
    """

    sequence_length: int = Field(80, ge=1, description="characters that the model sees")
    stride: int = Field(
        10, ge=1, description="characters between the starts of two examples; LEAF uses 1"
    )
    min_samples: int = Field(
        16, ge=1, description="roles with fewer training examples are left out"
    )

    def interface(self) -> dict[str, Any]:
        return super().interface() | {"characters": ALPHABET}

    def files(self) -> Sequence[Path]:
        return [fetch("shakespeare", REMOTE)]

    def read(self) -> RawSplits:
        path = self.files()[0]
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        roles = speeches(text)
        parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"train": [], "test": []}
        names: list[str] = []
        for role, said in roles.items():
            ids = encode(said)
            cut = len(ids) - int(TEST_SHARE * len(ids))
            train = self._windows(ids[:cut])
            if len(train) < self.min_samples:
                continue
            for label, windows in (("train", train), ("test", self._windows(ids[cut:]))):
                parts[label].append((windows, np.full(len(windows), len(names))))
            names.append(role)
        if not names:
            raise DataError(
                f"{path}: none of {len(roles)} roles has {self.min_samples} training examples of "
                f"{self.sequence_length} characters\n  fix: lower min_samples or sequence_length"
            )
        train_part, test_part = (_joined(parts[label]) for label in ("train", "test"))
        return RawSplits(
            train_part,
            test_part,
            kind="tokens",
            outputs=VOCABULARY,
            vocabulary=(VOCABULARY,),
            class_names=("unknown", *ALPHABET),
            group_names=tuple(names),
        )

    def _windows(self, ids: np.ndarray) -> np.ndarray:
        """Every ``stride``-th run of sequence_length + 1 ids (the last is the target)."""
        size = self.sequence_length + 1
        if len(ids) < size:
            return np.empty((0, size), np.uint8)
        return np.lib.stride_tricks.sliding_window_view(ids, size)[:: self.stride]


def speeches(text: str) -> dict[str, str]:
    """What each role says, joined in the order of the text.

    A speech is a paragraph whose first line is the speaker's name and a colon.

    Raises:
        DataError: no paragraph has that form.
    """
    said_by: dict[str, list[str]] = {}
    for paragraph in text.split("\n\n"):
        head, _, said = paragraph.strip("\n").partition("\n")
        if head.endswith(":") and said:
            said_by.setdefault(head[:-1], []).append(said)
    if not said_by:
        raise DataError("the text has no speeches: a line 'NAME:' and what is said below it")
    return {role: "\n".join(parts) for role, parts in said_by.items()}


def encode(text: str) -> np.ndarray:
    """Character ids, uint8 [len(text)]; 0 for a character outside the alphabet."""
    table = np.zeros(256, np.uint8)
    table[[ord(character) for character in ALPHABET]] = np.arange(1, VOCABULARY)
    # Beyond latin-1 a character becomes one NUL, which the table sends to 0.
    return table[np.array([min(ord(c), 256) % 256 for c in text], np.uint8)]


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> Arrays:
    windows = np.concatenate([windows for windows, _ in parts])
    groups = np.concatenate([groups for _, groups in parts]).astype(np.int64)
    return Arrays(windows[:, :-1].copy(), windows[:, -1].astype(np.int64), groups)
