"""Label-text scoring: a query's answer is the candidate whose text lies nearest to it.

Sentence encoders fine-tuned on different tasks have no common output: eight classifiers have eight
heads, and a mixture of adapters has no head to go to. So there is none: with f the tuned encoder
and f0 the one that tuning began from, the score of a candidate label is cos(f(x), f0(label)), both
mean-pooled. The labels' side is frozen, as CLIP's text tower is in Radford et al. (2021): models
of all tasks answer in the same space, and merging, mixing and the base itself are all defined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import functional, torch, without_gradients
from hansa.base.pretrained import OWN_CODE_ONLY
from hansa.models.without_bars import without_bars

if TYPE_CHECKING:
    from torch import Tensor, nn


class SentenceEncoder:
    """An encoder with its tokenizer: sentences in, unit vectors out.

    Args:
        module: takes ``input_ids`` and ``attention_mask`` and returns a ``last_hidden_state``
            [B, T, h], as transformers' BertModel does.
        tokenizer: a fast tokenizer of transformers.
        max_tokens: sentences are cut here, special tokens counted.
        first_token: its last hidden state is the sentence's, not the mean of all.
    """

    def __init__(
        self, module: nn.Module, tokenizer: Any, max_tokens: int = 128, first_token: bool = False
    ) -> None:
        self.module, self.tokenizer, self.max_tokens = module, tokenizer, max_tokens
        self.first_token = first_token

    @classmethod
    def open(cls, folder: Path, max_tokens: int = 128) -> SentenceEncoder:
        """An encoder from a transformers or sentence-transformers folder, in fp32.

        Raises:
            ConfigError: transformers is missing, or the folder holds no such model.
        """
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError:
            raise ConfigError(
                "encoder", str(folder), "needs transformers", "pip install 'hansa[transformers]'"
            ) from None
        if not (folder / "config.json").is_file():
            raise ConfigError(
                "encoder", str(folder), "has no config.json", "give the folder of a model"
            )
        try:
            with without_bars():
                tokenizer = AutoTokenizer.from_pretrained(
                    folder, local_files_only=True, **OWN_CODE_ONLY
                )
                module = AutoModel.from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    dtype=torch.float32,
                    **OWN_CODE_ONLY,
                )
        except (OSError, ValueError) as error:
            raise ConfigError("encoder", str(folder), f"cannot be opened: {error}") from error
        return cls(module.eval(), tokenizer, max_tokens)

    def tokens(self, sentences: Sequence[str]) -> list[list[int]]:
        """The ids of each sentence, with the special tokens."""
        if not sentences:
            return []
        cut = {"truncation": True, "max_length": self.max_tokens}
        return self.tokenizer(list(sentences), return_attention_mask=False, **cut)["input_ids"]

    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask``, int64 [B, T], padded on the right."""
        longest = max(map(len, rows))
        padding = self.tokenizer.pad_token_id or 0
        ids = torch.full((len(rows), longest), padding)
        mask = torch.zeros((len(rows), longest), dtype=torch.int64)
        for k, row in enumerate(rows):
            ids[k, : len(row)] = torch.tensor(row)
            mask[k, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def pooled(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """fp32 [B, h]: unit vectors, the mean of the last hidden states of each row's tokens.

        Or, with ``first_token``, the first token's state.
        """
        batch = self.batch(rows)
        hidden = self.module(**batch).last_hidden_state
        if self.first_token:
            return functional.normalize(hidden[:, 0].float(), dim=-1)
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        # The sum over the tokens that are; cosines need no mean.
        return functional.normalize((hidden * mask).sum(1).float(), dim=-1)

    @without_gradients
    def embed(self, sentences: Sequence[str], batch_size: int = 64) -> Tensor:
        """fp32 [n, h], the unit vectors of sentences; batched by length, in the order given."""
        rows = self.tokens(sentences)
        order = sorted(range(len(rows)), key=lambda k: len(rows[k]))
        was_training = self.module.training
        self.module.eval()
        parts = [
            self.pooled([rows[k] for k in order[start : start + batch_size]])
            for start in range(0, len(order), batch_size)
        ]
        self.module.train(was_training)
        vectors = torch.empty(len(rows), parts[0].shape[1]) if parts else torch.empty(0, 0)
        for start, part in zip(range(0, len(order), batch_size), parts, strict=True):
            vectors[torch.tensor(order[start : start + batch_size])] = part
        return vectors


class Labels:
    """The vectors of label texts, each embedded once by the encoder as it was at the beginning.

    Args:
        encoder: f0; it must not change between calls of :meth:`vectors` unless all texts that
            will be asked for were asked for before.
    """

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self._vectors: dict[str, Tensor] = {}

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """fp32 [C, h], unit vectors."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, self._encoder.embed(new), strict=True))
        return torch.stack([self._vectors[text] for text in texts])

    def known(self) -> Mapping[str, Tensor]:
        """All that were asked for so far."""
        return self._vectors


def label_text_loss(vectors: Tensor, labels: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the cosines, divided by the temperature.

    Args:
        vectors: [B, h], unit vectors of the queries.
        labels: [C, h], unit vectors of the candidates.
        right: int64 [B], which candidate is right.
        temperature: what turns cosines, which lie close together, into a sharp softmax.
    """
    return functional.cross_entropy(vectors @ labels.T / temperature, right)


@without_gradients
def label_text_accuracy(
    encoder: SentenceEncoder, sentences: Sequence[str], right: Sequence[int], labels: Tensor
) -> float:
    """The share of sentences whose nearest label is the right one."""
    nearest = (encoder.embed(sentences) @ labels.T).argmax(1)
    return float((nearest == torch.tensor(right)).double().mean())
