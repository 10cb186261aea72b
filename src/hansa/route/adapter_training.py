"""Training of LoRA adapters on one's own tasks, written as PEFT folders.

Two objectives. A sentence encoder has no head: it learns to lie near the text of the right label
(``models/label_text.py``). A causal language model learns the tokens of the answer after those of
the query. The base is left as it was.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from hansa.base.errors import ConfigError
from hansa.base.lazy import functional, torch
from hansa.base.streams import Streams
from hansa.models.adapted_layers import targeted
from hansa.models.draws import drawing
from hansa.models.fine_tuning import FineTuning, Tuned, fine_tune
from hansa.models.label_text import Labels, SentenceEncoder, label_text_loss
from hansa.route.sets import Example

if TYPE_CHECKING:
    from torch import Tensor, nn

Objective = Literal["label_text", "next_token"]
IGNORED = -100
"""The label of a token that is no part of the answer, as cross-entropy has it."""


class AdapterTraining(FineTuning):
    """How an adapter is made and trained."""

    lr: float = Field(1e-3, gt=0, description="learning rate at its highest")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW (Loshchilov and Hutter 2019)")
    rank: int = Field(8, ge=1, description="rank of the factors (Hu et al. 2022)")
    alpha: float = Field(16.0, gt=0, description="the adapter is scaled by alpha / rank")
    rslora: bool = Field(
        False, description="scale by alpha / sqrt(rank) instead (Kalajdzievski 2023)"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="on what goes into the adapter")
    target_modules: tuple[str, ...] = Field(
        (), description="ends of the names of layers to adapt; none = all linear ones of the stack"
    )
    max_tokens: int = Field(128, ge=2, description="queries are cut here")
    temperature: float = Field(
        0.05, gt=0, description="of the cosines between queries and label texts"
    )


def train_adapter(
    module: nn.Module,
    tokenizer: Any,
    examples: Sequence[Example],
    settings: AdapterTraining,
    place: Path,
    *,
    objective: Objective | None = None,
    labels: Labels | None = None,
    told: Any = None,
) -> Path:
    """Train one LoRA adapter and write its PEFT folder.

    Args:
        module: the base, of transformers. As it was, afterwards.
        tokenizer: the base's own, a fast one.
        examples: to train on. For label-text scoring each query carries its candidates.
        place: the folder to write; it appears when it is whole.
        objective: None = next-token where the model can generate, label-text elsewhere.
        labels: vectors of label texts by this base, where several adapters share them.
        told: hears of each step: its number from 1, of how many, the loss.

    Returns:
        ``place``.

    Raises:
        ConfigError: peft is missing, the folder is taken, there are no examples, an answer is
            none of its candidates, or no layer has a targeted name.
        Diverged: the loss is no longer finite.
    """
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError("place", str(place), "is not empty", "another folder")
    if not examples:
        raise ConfigError("examples", [], "are none", "give some to train on")
    objective = objective or ("next_token" if _generates(module) else "label_text")
    if objective == "label_text":
        for k, example in enumerate(examples):
            if example.answer not in example.query.candidates:
                raise ConfigError(
                    f"examples.{k}",
                    example.answer,
                    f"is none of the candidates {list(example.query.candidates)}",
                    "list the right answer among them",
                )
    targets = targeted(module, settings.target_modules)
    peft = _peft()
    # f0's vectors of the labels, before anything is changed.
    encoder = SentenceEncoder(module, tokenizer, settings.max_tokens)
    labels = labels or Labels(encoder)
    if objective == "label_text":
        labels.vectors(sorted({text for e in examples for text in e.query.candidates}))
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        target_modules=targets,
        task_type="CAUSAL_LM" if objective == "next_token" else None,
    )
    with _adapted(module, config, settings.seed) as adapted:
        if objective == "label_text":
            _train_label_text(encoder, examples, labels, settings, told)
        else:
            _train_next_token(module, tokenizer, examples, settings, told)
        part = place.with_name(f".{place.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        adapted.save_pretrained(part, safe_serialization=True, save_embedding_layers=False)
    (part / "README.md").unlink(missing_ok=True)  # a model card of blanks
    if place.exists():
        place.rmdir()
    part.rename(place)
    return place


def _generates(module: nn.Module) -> bool:
    head = getattr(module, "get_output_embeddings", lambda: None)()
    return head is not None


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ConfigError(
            "adapter", None, "training needs peft", "pip install 'hansa[transformers]'"
        ) from None
    return peft


@contextlib.contextmanager
def _adapted(module: nn.Module, config: Any, seed: int) -> Iterator[Any]:
    """The base with fresh factors in it, which alone are trained; without them afterwards."""
    wanted = {name: p.requires_grad for name, p in module.named_parameters()}
    with drawing(Streams(seed).integer("adapter.initial")):
        adapted = _peft().get_peft_model(module, config)
    try:
        yield adapted
    finally:
        adapted.unload()
        vars(module).pop("peft_config", None)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(wanted[name])


def _train_label_text(
    encoder: SentenceEncoder,
    examples: Sequence[Example],
    labels: Labels,
    settings: AdapterTraining,
    told: Any,
) -> Tuned:
    rows = encoder.tokens([e.query.text for e in examples])

    def loss(of: list[int]) -> Tensor:
        vectors = encoder.pooled([rows[k] for k in of])
        # Examples of one task share their candidates; others come with their own.
        parts: dict[tuple[str, ...], list[int]] = {}
        for place, k in enumerate(of):
            parts.setdefault(examples[k].query.candidates, []).append(place)
        total = vectors.new_zeros(())
        for candidates, places in parts.items():
            right = torch.tensor([candidates.index(examples[of[p]].answer) for p in places])
            part = label_text_loss(
                vectors[places], labels.vectors(candidates), right, settings.temperature
            )
            total = total + part * len(places)
        return total / len(of)

    return fine_tune(encoder.module, loss, [len(row) for row in rows], settings, told)


def _train_next_token(
    module: nn.Module,
    tokenizer: Any,
    examples: Sequence[Example],
    settings: AdapterTraining,
    told: Any,
) -> Tuned:
    rows = [answered(tokenizer, e.query.text, e.answer, settings.max_tokens) for e in examples]
    padding = tokenizer.pad_token_id or 0

    def loss(of: list[int]) -> Tensor:
        longest = max(len(rows[k][0]) for k in of)
        ids = torch.full((len(of), longest), padding)
        wanted = torch.full((len(of), longest), IGNORED)
        mask = torch.zeros((len(of), longest), dtype=torch.int64)
        for row, k in enumerate(of):
            tokens, asked = rows[k]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            wanted[row, asked : len(tokens)] = ids[row, asked : len(tokens)]
            mask[row, : len(tokens)] = 1
        logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), wanted[:, 1:].flatten(), ignore_index=IGNORED
        )

    return fine_tune(module, loss, [len(tokens) for tokens, _ in rows], settings, told)


def answered(tokenizer: Any, query: str, answer: str, max_tokens: int) -> tuple[list[int], int]:
    """The tokens of a query with its answer, and how many of them are the query's.

    The answer follows a space, is never cut, and ends with the end of the text where the
    tokenizer has a token for that. A query that is too long loses its beginning.
    """
    asked = list(tokenizer(query)["input_ids"])
    end = tokenizer.eos_token_id
    if end is not None and asked and asked[-1] == end and len(asked) > 1:
        asked.pop()  # some tokenizers end every text
    asked = asked[-max_tokens:]
    said = list(tokenizer(f" {answer}", add_special_tokens=False)["input_ids"])
    return [*asked, *said, *([] if end is None else [end])], len(asked)
