"""Real sentences: eight classification tasks on a sentence encoder, asked by the labels' texts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.base.pretrained import INSTALL_MINILM, packaged_minilm
from hansa.base.streams import Streams
from hansa.data.fetch import fetch
from hansa.data.sources.sentences import (
    NAMES,
    LabelledSentence,
    SentencePool,
    SentenceTask,
    TaskNames,
    sentence_pool,
)
from hansa.data.sources.shakespeare import REMOTE
from hansa.route.answering import Query
from hansa.route.encoders.sentence_transformer import layout
from hansa.route.sets import Example, RoutedTask, check_tasks
from hansa.route.world import RoutedTasks, Say, World

SENTIMENT = ("sst2", "sst5", "mr", "cr", "mpqa")
"""Tasks of one domain; every other is a domain of its own."""


@register("sentences")
class Sentences(RoutedTasks):
    """SST-2, SST-5, MR, SUBJ, CR, MPQA, TREC and AG News, and a LoRA for each on a MiniLM.

    An encoder has no answers of its own: the label whose text lies nearest is the answer. No train
    or validation set holds a sentence of any test set. Texts of no task are lines of Shakespeare.
    """

    tasks: TaskNames = Field(NAMES, description="which of the eight")
    encoder: Path | None = Field(
        None, description="folder of a sentence encoder; none: the MiniLM of a package"
    )
    train: int = Field(1000, ge=8, description="sentences an adapter is trained on, at most")
    validation: int = Field(40, ge=2, description="validation sentences a task, at most")
    test: int = Field(100, ge=1, description="test sentences a task, at most")
    epochs: float = Field(2.0, gt=0, description="passes over the train sentences")
    lr: float = Field(2e-3, gt=0, description="of an adapter's AdamW, at its highest")
    rank: int = Field(8, ge=1, le=64, description="of adapters, on all linear layers of the stack")
    max_tokens: int = Field(64, ge=4, description="where a sentence is cut in training")
    bfloat16: bool = Field(False, description="train in bfloat16: soon where the machine has it")
    foreign: int = Field(200, ge=0, description="lines of Shakespeare, for the abstention")

    def check(self) -> None:
        for package in ("transformers", "peft"):
            if importlib.util.find_spec(package) is None:
                fix = "pip install 'hansa[transformers]'"
                raise ConfigError("tasks", self.name, f"needs {package}", fix)
        self._encoder()

    def build(self, seed: int, place: Path, say: Say) -> World:
        base = self._encoder()
        pool = sentence_pool(
            self.tasks, seed, train=self.train, validation=self.validation, test=self.test
        )
        say(pool.story())
        tasks = [
            RoutedTask(
                task.name,
                "sentiment" if task.name in SENTIMENT else task.name,
                examples_of(task, task.validation),
                examples_of(task, task.test),
                own=task.name,
            )
            for task in pool.tasks
        ]
        check_tasks(tasks)
        lines, notes = self._foreign(seed)
        self._adapters(pool, base, seed, place / "pool", say)
        return World(tuple(tasks), base, place / "pool", lines, (pool.story(), *notes))

    def _encoder(self) -> Path:
        """The encoder's transformers folder."""
        folder = self.encoder
        if folder is None:
            folder = packaged_minilm()
            if folder is None:
                problem = "is not named, and there is no package with one"
                fix = f"a folder, or {INSTALL_MINILM}"
                raise ConfigError("tasks.encoder", None, problem, fix)
        if not folder.is_dir():
            raise ConfigError("tasks.encoder", str(folder), "is no folder", "a sentence encoder's")
        inner, _ = layout(folder)
        if not (inner / "config.json").is_file():
            problem = "holds no config.json of transformers"
            raise ConfigError("tasks.encoder", str(folder), problem, "a sentence encoder's folder")
        return inner

    def _foreign(self, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(lines of no task, what to tell where there are none)."""
        if not self.foreign:
            return (), ()
        try:
            text = fetch("shakespeare", REMOTE).read_text(encoding="utf-8")
        except DataError as error:
            return (), (f"No abstention was measured: {str(error).splitlines()[0]}",)
        lines = [line for line in text.splitlines() if len(line.split()) > 4]
        order = Streams(seed).numpy("foreign lines").permutation(len(lines))
        return tuple(lines[k] for k in order[: self.foreign]), ()

    def _adapters(self, pool: SentencePool, base: Path, seed: int, place: Path, say: Say) -> None:
        from hansa.models.label_text import Labels, SentenceEncoder
        from hansa.route.adapter_training import AdapterTraining, train_adapter

        missing = [task for task in pool.tasks if not (place / task.name).is_dir()]
        if not missing:
            return
        place.mkdir(parents=True, exist_ok=True)
        encoder = SentenceEncoder.open(base, self.max_tokens)
        labels = Labels(encoder)
        for task in missing:
            # A seed of its own: the same adapter whichever others were trained before.
            settings = AdapterTraining(
                epochs=self.epochs, lr=self.lr, rank=self.rank, alpha=2.0 * self.rank,
                max_tokens=self.max_tokens, bfloat16=self.bfloat16,
                seed=Streams(seed).integer(f"adapter {task.name}") % 2**31,
            )  # fmt: skip
            train_adapter(
                encoder.module, encoder.tokenizer, examples_of(task, task.train), settings,
                place / task.name, labels=labels, told=_steps(say, f"adapter {task.name}"),
            )  # fmt: skip


def examples_of(task: SentenceTask, sentences: tuple[LabelledSentence, ...]) -> tuple[Example, ...]:
    """Sentences as queries that carry the task's labels as candidates."""
    return tuple(Example(Query(s.text, task.labels), task.labels[s.label]) for s in sentences)


def _steps(say: Say, what: str) -> Any:
    return lambda step, steps, loss: say(f"{what}: step {step} of {steps}, loss {loss:.3f}")
