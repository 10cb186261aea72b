"""What is to be forgotten: classes, clients, single examples, or several of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hansa.base.errors import ConfigError

Level = Literal["class", "client", "sample"]


@dataclass(frozen=True)
class Request:
    """Data that the model is to be without: an example is meant if any of these covers it.

    Attributes:
        classes: everybody's examples of these classes.
        clients: all examples of these clients.
        samples: these training examples, by index.
    """

    classes: tuple[int, ...] = ()
    clients: tuple[int, ...] = ()
    samples: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        classes: Iterable[int] = (),
        clients: Iterable[int] = (),
        samples: Iterable[int] = (),
    ) -> Request:
        """With each item once, in order."""
        groups = (classes, clients, samples)
        return cls(*(tuple(sorted({int(item) for item in group})) for group in groups))

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> Request:
        """From what :meth:`dump` gave."""
        return cls.of(*(plain.get(name, ()) for name in ("classes", "clients", "samples")))

    def dump(self) -> dict[str, list[int]]:
        """Plain data."""
        return {name: list(items) for name, items in vars(self).items() if items}

    def __bool__(self) -> bool:
        return bool(self.classes or self.clients or self.samples)

    def __str__(self) -> str:
        words = {"classes": "class", "clients": "client", "samples": "sample"}
        return ", ".join(f"{words[n]} {i}" for n, items in self.dump().items() for i in items)

    def named(self, classes: Sequence[str] = ()) -> str:
        """The same words, with the classes' names where they have some."""
        words = str(self)
        class_words = {
            f"class {i}": f"class {classes[i]}" for i in self.classes if i < len(classes)
        }
        return (
            ", ".join(class_words.get(word, word) for word in words.split(", ")) if words else words
        )

    @property
    def levels(self) -> set[Level]:
        """The kinds of data that it names."""
        named: dict[Level, tuple[int, ...]] = {
            "class": self.classes, "client": self.clients, "sample": self.samples,
        }  # fmt: skip
        return {level for level, items in named.items() if items}

    def __or__(self, other: Request) -> Request:
        """Both."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Request.of(*(a + b for a, b in pairs))

    def __and__(self, other: Request) -> Request:
        """What both name."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Request.of(*(set(a) & set(b) for a, b in pairs))

    def __sub__(self, other: Request) -> Request:
        """What only this one names."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Request.of(*(set(a) - set(b) for a, b in pairs))

    def covers(self, client: int, index: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Which of a client's examples are meant: bool [m].

        Args:
            index: int64 [m], positions in the training set.
            labels: int64 [m], their classes.
        """
        if client in self.clients:
            return np.ones(len(index), dtype=bool)
        return np.isin(labels, self.classes) | np.isin(index, self.samples)

    def covers_cell(self, client: int, label: int) -> bool:
        """Whether all of a client's examples of a class are meant."""
        return client in self.clients or label in self.classes


def class_numbers(words: Iterable[str], names: Sequence[str], field: str = "class") -> list[int]:
    """Classes by number, which were asked for by number or name.

    Args:
        names: of the run's classes; empty where they have none.
        field: where they stand, for the error.

    Raises:
        ConfigError: there is no such class.
    """
    numbers = []
    # Classes called 1, 2, 3 have no class 0: there a number is a name, and no place.
    named = any(name.isdecimal() and name != str(k) for k, name in enumerate(names))
    for word in words:
        if word in names:
            numbers.append(list(names).index(word))
        elif word.isdecimal() and not named:
            numbers.append(int(word))
        else:
            fix = f"one of {', '.join(names[:20])}" if names else "its number"
            raise ConfigError(field, word, "there is no such class", fix)
    return numbers


def check_request(
    request: Request,
    past: Request,
    histogram: np.ndarray,
    parts: list[np.ndarray],
    names: Sequence[str] = (),
) -> None:
    """Refuse what cannot be forgotten.

    Args:
        past: what was forgotten before.
        histogram: int64 [clients, C], examples of each class.
        names: of the classes.

    Raises:
        ConfigError: it names nothing, nobody's data, data that are gone already, or all there is.
    """
    clients, classes = histogram.shape
    if not request:
        problem = "nothing is named that is to be forgotten"
        raise ConfigError("request", None, problem, "--class 3, --client 7 or --sample 12")
    for field, items, count in (
        ("class", request.classes, classes),
        ("client", request.clients, clients),
    ):
        for item in items:
            if not 0 <= item < count:
                problem = f"there is no such {field}, they are 0 to {count - 1}"
                raise ConfigError(field, item, problem, f"--{field} with one of those")
    held = np.concatenate(parts)
    for sample in request.samples:
        if sample not in held:
            raise ConfigError("sample", sample, "no client trains on that example", "another one")
    for label in request.classes:
        if not histogram[:, label].any():
            problem = "no client has an example of it, so nothing was learned from it"
            called = names[label] if label < len(names) else label
            raise ConfigError("class", called, problem, "a class that occurs in partition.json")
    if again := request & past:
        problem = "was already forgotten"
        fix = "leave it out, or --relearn it first"
        raise ConfigError("request", again.named(names), problem, fix)
    everything = request | past
    left = [c for c in range(clients) if c not in everything.clients]
    if not left:
        problem = "no client would be left to recover the model with"
        raise ConfigError("client", list(request.clients), problem, "leave out one client at least")
    kept = np.delete(histogram[left], everything.classes, axis=1)
    if not kept.any():
        problem = "no example would be left"
        fix = "a request that leaves some data"
        raise ConfigError("request", request.named(names), problem, fix)
