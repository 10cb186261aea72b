"""Tasks, base and adapters that are made here from made texts: no hub, no download."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from pathlib import Path
from typing import Any

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.pretrained import OWN_CODE_ONLY
from hansa.base.streams import Streams
from hansa.route.sets import RoutedTask, check_tasks
from hansa.route.sources.task_folder import write_task
from hansa.route.sources.template_texts import TextWorld
from hansa.route.world import RoutedTasks, Say, World

SHOWN = 100
"""Training examples of each task that are written beside its others, to be looked at."""


@register("templates")
class Templates(RoutedTasks):
    """Made texts of a few domains, a tiny Llama that is pre-trained on them, and a LoRA a task."""

    domains: int = Field(4, ge=1, le=20, description="domains: words and answers of their own")
    tasks_per_domain: int = Field(3, ge=1, le=9, description="tasks of a domain: other templates")
    validation: int = Field(40, ge=2, description="validation examples a task")
    test: int = Field(50, ge=1, description="test queries a task")
    train: int = Field(2000, ge=32, description="examples an adapter is trained on")
    base_steps: int = Field(150, ge=1, description="steps of pre-training, of 64 texts")
    adapter_steps: int = Field(140, ge=1, description="steps of an adapter, of 32 texts")
    lr: float = Field(8e-3, gt=0, description="of an adapter's AdamW, at its highest")
    rank: int = Field(8, ge=1, le=64, description="of adapters, on all linear layers")
    hidden: int = Field(64, ge=8, description="width of the base; a multiple of 4")
    layers: int = Field(2, ge=1, description="of the base")
    foreign: int = Field(200, ge=0, description="texts of no task, for the abstention")

    def check(self) -> None:
        for package in ("transformers", "peft"):
            if importlib.util.find_spec(package) is None:
                fix = "pip install 'hansa[transformers]'"
                raise ConfigError("tasks", self.name, f"needs {package}", fix)
        if self.hidden % 8:
            raise ConfigError("tasks.hidden", self.hidden, "is no multiple of 8", "such as 64")

    def build(self, seed: int, place: Path, say: Say) -> World:
        texts = TextWorld(self.domains, self.tasks_per_domain, seed=seed)
        base = self._base(texts, seed, place, say)
        self._adapters(texts, base, seed, place / "pool", say)
        tasks = self.tasks_of(seed)
        check_tasks(tasks)
        for k, task in enumerate(tasks):
            write_task(place / "tasks", task, texts.examples(k, "training", min(SHOWN, self.train)))
        return World(tuple(tasks), base, place / "pool", texts.foreign(self.foreign))

    def tasks_of(self, seed: int) -> list[RoutedTask]:
        """The tasks of a seed's world."""
        texts = TextWorld(self.domains, self.tasks_per_domain, seed=seed)
        return [
            RoutedTask(
                name, domain, texts.examples(k, "validation", self.validation),
                texts.examples(k, "test", self.test), own=name,
            )
            for k, (name, domain) in enumerate(texts.names())
        ]  # fmt: skip

    def _base(self, texts: TextWorld, seed: int, place: Path, say: Say) -> Path:
        from hansa.route.sources.word_model import pretrain, word_tokenizer

        base = place / "base"
        if base.is_dir():
            return base
        place.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(place / ".base.part", ignore_errors=True)  # a kill left it
        read = [
            example.query.text
            for k in range(len(texts.names()))
            for example in texts.examples(k, "pre-training", 300)
        ]
        return pretrain(
            read, texts.answers(), word_tokenizer(texts.words()), base, seed, self.base_steps,
            self.hidden, self.layers, _steps(say, "the base is pre-trained"),
        )  # fmt: skip

    def _adapters(self, texts: TextWorld, base: Path, seed: int, pool: Path, say: Say) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from hansa.models.without_bars import without_bars
        from hansa.route.adapter_training import AdapterTraining, train_adapter

        missing = [
            (k, name) for k, (name, _) in enumerate(texts.names()) if not (pool / name).is_dir()
        ]
        if not missing:
            return
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, **OWN_CODE_ONLY)
        for k, name in missing:
            # Afresh for each: whichever were trained before an interrupt, all end the same.
            with without_bars():
                module = AutoModelForCausalLM.from_pretrained(
                    base, local_files_only=True, **OWN_CODE_ONLY
                ).eval()
            settings = AdapterTraining(
                steps=self.adapter_steps, lr=self.lr, batch_size=32, rank=self.rank,
                alpha=2.0 * self.rank, seed=Streams(seed).integer(f"adapter {name}") % 2**31,
            )  # fmt: skip
            examples = texts.examples(k, "training", self.train)
            told = _steps(say, f"adapter {name}")
            pool.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():  # of libraries about each other
                warnings.simplefilter("ignore", FutureWarning)
                train_adapter(module, tokenizer, examples, settings, pool / name, told=told)


def _steps(say: Say, what: str) -> Any:
    return lambda step, steps, loss: say(f"{what}: step {step} of {steps}, loss {loss:.3f}")
