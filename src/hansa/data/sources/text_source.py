"""The settings that all sources of texts share: how a text becomes a row of token ids."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import Field

from hansa.base.errors import DataError
from hansa.base.paths import NameOrPath
from hansa.data.columns import split_rows
from hansa.data.raw import Arrays, RawSplits
from hansa.data.source import DataSource
from hansa.data.tokens import TokenRows, hashed, tokenized


@dataclass(frozen=True)
class Texts:
    """Texts with their labels, and whose they are.

    Attributes:
        said: N texts.
        targets: int64 classes [N], or float32 amounts.
        class_names: one a class; none of amounts.
        groups: int64 [N], or None.
        group_names: one a group.
        first_test: where the test set begins; None: a part of each class is held out.
        notes: what a person should know of how they were read.
    """

    said: list[str]
    targets: np.ndarray
    class_names: tuple[str, ...]
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    first_test: int | None = None
    notes: tuple[str, ...] = ()


class TextSource(DataSource):
    """A source of texts, each with a label: a subclass reads them, this class makes ids of them."""

    tokenizer: NameOrPath | None = Field(
        None,
        description="folder of a pretrained model whose tokenizer is used, or its name on the hub; "
        "none: that of model.base, and where there is none words by their hash",
    )
    max_length: int = Field(
        64, ge=2, description="tokens of a text that count, marks among them; the rest is cut off"
    )
    vocabulary: int = Field(
        4096, ge=8, description="how many ids hashed words have; with a tokenizer it says this"
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="held out as the test set where there is none of its own"
    )

    @abstractmethod
    def texts(self) -> Texts:
        """The texts as they are stored; the one method of a subclass.

        Raises:
            ConfigError: a setting does not fit what is stored.
            DataError: the texts are missing, damaged or not of the expected form.
        """

    def tokenized_by(self, tokenizer: str) -> Self:
        return self if self.tokenizer else self.model_copy(update={"tokenizer": tokenizer})

    def interface(self) -> dict[str, Any]:
        return super().interface() | {
            "text": getattr(self, "text", "text"),
            "label": getattr(self, "label", "label"),
            "tokenizer": self.tokenizer,
            "max_length": self.max_length,
            "hashes": self.vocabulary,
        }

    def read(self) -> RawSplits:
        texts = self.texts()
        rows = self._rows(texts.said)
        cut = int((rows.ids[:, -1] != rows.padding).sum())
        notes = list(texts.notes)
        if cut > len(rows.ids) // 10:
            share = f"{cut} of {len(rows.ids)} texts"
            notes.append(
                f"{share} have {self.max_length} tokens or more and may be cut: max_length"
            )
        if texts.first_test is None:
            by = texts.targets if texts.class_names else np.zeros(len(texts.targets), np.int64)
            parts = split_rows(self.test_fraction, "texts", by)
            if not len(parts[1]):
                problem = f"{type(self).name}: {len(texts.said)} texts are too few to test on any"
                raise DataError(f"{problem}\n  fix: more texts, or a higher test_fraction")
        else:
            every = np.arange(len(texts.said))
            parts = every[: texts.first_test], every[texts.first_test :]
        train, test = (
            Arrays(
                rows.ids[at], texts.targets[at], None if texts.groups is None else texts.groups[at]
            )
            for at in parts
        )
        return RawSplits(
            train,
            test,
            kind="tokens",
            outputs=len(texts.class_names) or 1,
            vocabulary=(rows.vocabulary,),
            class_names=texts.class_names,
            group_names=texts.group_names,
            notes=tuple(notes),
            padding=rows.padding,
        )

    def _rows(self, said: list[str]) -> TokenRows:
        if self.tokenizer is None:
            return hashed(said, self.vocabulary, self.max_length)
        return tokenized(said, self.tokenizer, self.max_length)
