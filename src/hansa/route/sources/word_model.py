"""A tiny causal language model over words, pre-trained here: it knows a form, not the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.models.draws import drawing
from hansa.models.fine_tuning import FineTuning, fine_tune
from hansa.models.without_bars import without_bars

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


def word_tokenizer(words: Sequence[str]) -> Any:
    """A tokenizer of ``transformers`` that has these words, each one token."""
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        fix = "pip install 'hansa[transformers]'"
        raise ConfigError("tasks", None, "needs transformers", fix) from None
    places = {word: k for k, word in enumerate([PAD, END, UNKNOWN, *words])}
    inner = Tokenizer(models.WordLevel(places, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, eos_token=END, unk_token=UNKNOWN,
        padding_side="left", model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def pretrain(
    texts: Sequence[str],
    answers: Sequence[str],
    tokenizer: Any,
    place: Path,
    seed: int,
    steps: int,
    hidden: int = 64,
    layers: int = 2,
    told: Any = None,
) -> Path:
    """Write a Llama (Touvron et al. 2023) of a few 100,000 numbers that has read texts.

    Args:
        texts: each is followed by a random one of the answers.
        place: the transformers folder to write; it appears when it is whole.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    streams = Streams(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=2 * hidden,
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, tie_word_embeddings=False,
        initializer_range=0.1,
    )  # fmt: skip
    with drawing(streams.integer("base")):
        module = LlamaForCausalLM(config)
    said = streams.numpy("random answers").choice(list(answers), len(texts))
    rows = [
        [*tokenizer(f"{text} {answer}")["input_ids"], tokenizer.eos_token_id]
        for text, answer in zip(texts, said, strict=True)
    ]
    ids = torch.full((len(rows), max(map(len, rows))), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for n, row in enumerate(rows):  # padded on the left, as in answering
        ids[n, -len(row) :], mask[n, -len(row) :] = torch.tensor(row), 1

    def loss(of: list[int]) -> Any:
        wanted = ids[of].masked_fill(mask[of] == 0, -100)
        return module(input_ids=ids[of], attention_mask=mask[of], labels=wanted).loss

    settings = FineTuning(steps=steps, batch_size=64, lr=3e-3, weight_decay=0.0, seed=seed)
    fine_tune(module, loss, [len(row) for row in rows], settings, told)
    part = place.with_name(f".{place.name}.part")
    with without_bars():
        module.save_pretrained(part)
    tokenizer.save_pretrained(part)
    part.rename(place)
    return place
