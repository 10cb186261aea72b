"""One name for a tensor, however its model was wrapped, and one tensor for names that are tied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hansa.weights.tensor_file import TensorEntry, raw_bytes, read_entry

WRAPPERS = ("module.", "_orig_mod.")
"""What parallel and compiled modules put before every name."""

BODIES = (
    *("bert.", "roberta.", "distilbert.", "electra.", "deberta.", "albert.", "vit.", "deit."),
    *("resnet.", "transformer.", "model.", "backbone."),
)
"""What a model with a head puts before the names of its body."""

HEADS = frozenset(
    {
        *("classifier", "pre_classifier", "score", "qa_outputs", "lm_head", "cls", "head"),
        *("heads", "fc", "classification_head", "pooler", "vocab_transform", "vocab_projector"),
        *("vocab_layer_norm", "predictions", "generator_predictions", "generator_lm_head"),
    }
)
"""First parts of names that stand beside the body, not in it."""

TIES = (
    ("lm_head.weight", ("embed_tokens.weight", "wte.weight", "shared.weight")),
    ("lm_head.weight", ("embeddings.word_embeddings.weight", "decoder.embed_tokens.weight")),
    ("encoder.embed_tokens.weight", ("shared.weight",)),
    ("decoder.embed_tokens.weight", ("shared.weight",)),
    ("cls.predictions.decoder.weight", ("embeddings.word_embeddings.weight",)),
    ("cls.predictions.decoder.bias", ("cls.predictions.bias",)),
    ("lm_head.decoder.weight", ("embeddings.word_embeddings.weight",)),
    ("lm_head.decoder.bias", ("lm_head.bias",)),
)
"""(alias, what it may be tied to), by canonical name."""

_ALIASES_OF = {
    "lm_head": ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"),
    "cls": ("BertForMaskedLM", "BertForPreTraining"),
    "lm_head.decoder": ("RobertaForMaskedLM",),
}
"""Which architectures have the aliases that no file names."""


def canonical(stored: Iterable[str]) -> dict[str, str]:
    """Stored name to canonical name: prefixes go where all names, or all but heads, have them."""
    names = {name: name for name in stored}
    while names:
        for prefix in (*WRAPPERS, *BODIES):
            having = [name for name in names.values() if name.startswith(prefix)]
            others = [name for name in names.values() if not name.startswith(prefix)]
            heads_only = prefix in BODIES and all(n.partition(".")[0] in HEADS for n in others)
            shorter = {key: name.removeprefix(prefix) for key, name in names.items()}
            one_to_one = len(set(shorter.values())) == len(names) and "" not in shorter.values()
            if having and one_to_one and (not others or heads_only):
                names = shorter
                break
        else:
            break
    return names


def untie(
    entries: Mapping[str, TensorEntry],
    config: Mapping[str, Any],
    noted: Mapping[str, str],
) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """The entries with each tied tensor once, and alias to kept name.

    Where a file stores both of a tied pair, the alias goes if their bytes are the same:
    transformers ties only such ones.

    Args:
        entries: by canonical name.
        noted: aliases that the file's writer noted (``safetensors.torch.save_model``).
    """
    kept = dict(sorted(entries.items()))
    tied = {alias: name for alias, name in noted.items() if alias not in kept and name in kept}
    if not config or not config.get("tie_word_embeddings", True):
        return kept, tied
    for alias, names in TIES:
        for name in (name for name in names if name in entries):
            if alias in kept:
                if same_bytes(kept[alias], entries[name]):
                    del kept[alias]
                    tied[alias] = name
            elif alias not in tied and _has(alias, config):
                tied[alias] = name
    return kept, tied


def _has(alias: str, config: Mapping[str, Any]) -> bool:
    """Whether the model has a module of this name, though no file stores it."""
    architectures = tuple(map(str, config.get("architectures") or ()))
    first, second = alias.split(".")[:2]
    endings = _ALIASES_OF.get(f"{first}.{second}", _ALIASES_OF.get(first))
    if endings is None:  # the two stacks of an encoder-decoder
        return not architectures or first == "encoder" or "Encoder" not in architectures[0]
    return any(name.endswith(endings) for name in architectures)


def same_bytes(one: TensorEntry, other: TensorEntry) -> bool:
    """Whether two tensors are equal bit for bit; a few rows at a time are in memory."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    rows = one.shape[0] if one.shape else 1
    step = max(1, (8 << 20) // max(1, one.row_bytes))
    for first in range(0, rows, step):
        part = slice(first, first + step)
        if raw_bytes(read_entry(one, part)) != raw_bytes(read_entry(other, part)):
            return False
    return True
