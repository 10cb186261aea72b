"""A causal language model that answers many queries at once, each under its own mixture.

Prompts are padded on the left, so that all rows end together; keys and values are kept from step
to step, and rows that are done leave the batch. Each row's answer is what it would be alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.route.answering import AnsweringModel, Mixture, Query
from hansa.route.decoding import Decoding, Generated, Heard, RowDecoder
from hansa.route.prefix_cache import Key, Prefix, PrefixCache, mixture_key
from hansa.route.row_mixing import Choice, RowMixing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hansa.route.slab import AdapterSlab


class GeneratingModel(AnsweringModel):
    """Answers by greedy decoding.

    Args:
        module: a causal language model of transformers, in eval mode.
        tokenizer: its own.
        max_tokens: of an answer, where a query does not say.
        prefixes: what is kept of prompts from one call to the next; None: nothing.
        kernel: how mixtures are added; see :func:`hansa.route.row_mixing.mixing`.
    """

    def __init__(
        self,
        module: nn.Module,
        tokenizer: Any,
        slab: AdapterSlab,
        max_tokens: int = 32,
        prefixes: PrefixCache | None = None,
        kernel: Choice = "auto",
    ) -> None:
        self.module, self.tokenizer, self.slab = module, tokenizer, slab
        self.decoding = Decoding(max_tokens)
        self.kernel: Choice = kernel
        self.prefixes = prefixes if prefixes is not None else PrefixCache(0)
        self._takes = frozenset(inspect.signature(module.forward).parameters)
        config: Any = module.config
        # A prefix leaves a gap before the rest of its prompt: positions have to be told apart from
        # places, which windows of attention are not.
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        window = getattr(config, "sliding_window", None) and not hasattr(config, "layer_types")
        self._resumes = "position_ids" in self._takes and kinds == {"full_attention"} and not window
        self.context = int(getattr(config, "max_position_embeddings", 0) or 0)
        """Tokens of a prompt and its answer at most; 0: the model does not say."""
        said = [getattr(tokenizer, "eos_token_id", None), getattr(config, "eos_token_id", None)]
        said.append(getattr(getattr(module, "generation_config", None), "eos_token_id", None))
        every = [end for one in said for end in (one if isinstance(one, list | tuple) else [one])]
        self.ends = frozenset(int(end) for end in every if end is not None)

    def answers(self, queries: Sequence[Query], mixtures: Sequence[Mixture]) -> list[str]:
        """Texts, without space at their ends; candidates are not looked at."""
        generated = self.generate([query.text for query in queries], mixtures)
        return [answer.text.strip() for answer in generated]

    def prompt(self, text: str) -> list[int]:
        """The tokens of a query. An end of text that the tokenizer puts there is left out.

        Raises:
            ConfigError: there is none.
        """
        tokens = list(self.tokenizer(text)["input_ids"])
        while tokens and tokens[-1] in self.ends:
            tokens.pop()
        if not tokens:
            raise ConfigError("text", text[:60], "has no token that the model knows", "some words")
        return tokens

    def generate(
        self,
        texts: Sequence[str | Sequence[int]],
        mixtures: Sequence[Mixture],
        decodings: Sequence[Decoding] | None = None,
        heard: Heard | None = None,
        unwanted: Callable[[int], bool] = lambda row: False,
    ) -> list[Generated]:
        """Answers of all rows.

        Args:
            texts: queries, or their tokens.
            decodings: one a row; None: the model's for all.
            heard: is told each piece of an answer as it comes.
            unwanted: is asked before each step whether nobody waits for a row any more; its answer
                ends there, without a reason to finish.

        Raises:
            ConfigError: as :meth:`answers`, or a prompt with its answer is longer than the model's
                context.
        """
        if not texts:
            return []
        mixed = self.checked(len(texts), mixtures)
        decodings = decodings or [self.decoding] * len(texts)
        prompts = [self.prompt(t) if isinstance(t, str) else list(t) for t in texts]
        for prompt, decoding in zip(prompts, decodings, strict=True):
            self.check_length(len(prompt), decoding)
        rows = [
            RowDecoder(self.tokenizer, prompt, decoding, self.ends, _of_row(heard, row))
            for row, (prompt, decoding) in enumerate(zip(prompts, decodings, strict=True))
        ]
        batch = RowMixing(self.slab, mixed, self.kernel)
        with batch.on(self.module), torch.inference_mode():
            self._decode(rows, prompts, mixed, batch, unwanted)
        return [row.answer for row in rows]

    def check_length(self, prompt_tokens: int, decoding: Decoding) -> None:
        """Hold a prompt and its answer against the context.

        Raises:
            ConfigError: they are longer.
        """
        if self.context and prompt_tokens + decoding.max_tokens > self.context:
            problem = (
                f"has {prompt_tokens} tokens, which with {decoding.max_tokens} of the answer are "
                f"more than the model's {self.context}"
            )
            raise ConfigError("text", None, problem, "a shorter text, or a smaller max_tokens")

    def _decode(
        self,
        rows: Sequence[RowDecoder],
        prompts: list[list[int]],
        mixed: list[Mixture],
        batch: RowMixing,
        unwanted: Callable[[int], bool],
    ) -> None:
        scores, cache, mask = self._read(prompts, mixed)
        place = torch.tensor([len(prompt) for prompt in prompts])
        live = list(range(len(rows)))
        while True:
            tokens = scores.argmax(-1).tolist()
            keep = [
                k
                for k, row in enumerate(live)
                if not rows[row].take(tokens[k]) and not unwanted(row)
            ]
            if not keep:
                return
            if len(keep) < len(live):  # rows that are done leave the batch
                live = [live[k] for k in keep]
                index = torch.tensor(keep)
                cache.batch_select_indices(index)
                mask, place = mask[index], place[index]
                tokens = [tokens[k] for k in keep]
                batch.select_mixtures([mixed[row] for row in live])
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], 1)
            scores = self._forward(torch.tensor(tokens)[:, None], mask, place[:, None], cache)
            place = place + 1

    def _read(self, prompts: list[list[int]], mixed: list[Mixture]) -> tuple[Tensor, Any, Tensor]:
        """Read the prompts: scores [n, vocabulary] of what follows, the cache, its mask [n, s].

        The cache lies as [padding, prefix read before, padding, rest of the prompt].
        """
        from transformers import DynamicCache

        kept: list[Prefix | None] = [None] * len(prompts)
        keys: list[Key] = []
        keeps = self._resumes and self.prefixes.most > 0
        if keeps:
            keys = [mixture_key(self.slab, mixture) for mixture in mixed]
            kept = [self.prefixes.longest(k, p) for k, p in zip(keys, prompts, strict=True)]
        before = [len(prefix.tokens) if prefix else 0 for prefix in kept]
        first = max(before)
        longest = max(len(p) - b for p, b in zip(prompts, before, strict=True))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        places = torch.zeros_like(ids)
        mask = torch.zeros(len(prompts), first + longest, dtype=torch.long)
        for row, (prompt, start) in enumerate(zip(prompts, before, strict=True)):
            rest = len(prompt) - start
            ids[row, longest - rest :] = torch.tensor(prompt[start:])
            places[row, longest - rest :] = torch.arange(start, len(prompt))
            mask[row, first - start : first] = 1
            mask[row, first + longest - rest :] = 1
        cache: Any = DynamicCache()
        if first:
            _lay_prefixes(cache, kept, first)
        scores = self._forward(ids, mask, places, cache)
        if keeps and all(type(c).__name__ == "DynamicLayer" for c in cache.layers):
            for row, prompt in enumerate(prompts):
                real = mask[row].nonzero()[:, 0]
                layers = tuple((c.keys[row][:, real], c.values[row][:, real]) for c in cache.layers)
                self.prefixes.put(keys[row], Prefix(tuple(prompt), layers))
        return scores, cache, mask

    def _forward(self, ids: Tensor, mask: Tensor, places: Tensor, cache: Any) -> Tensor:
        """Scores [n, vocabulary] after the last token of each row."""
        # What transformers calls the cache changes with its versions.
        held = "cache" if "cache" in self._takes else "past_key_values"
        inputs: dict[str, Any] = {"position_ids": places, "logits_to_keep": 1}
        chosen = {name: value for name, value in inputs.items() if name in self._takes}
        chosen[held] = cache
        outputs = self.module(input_ids=ids, attention_mask=mask, use_cache=True, **chosen)
        scores: Tensor = outputs.logits[:, -1]
        return scores


def _lay_prefixes(cache: Any, kept: Sequence[Prefix | None], first: int) -> None:
    """Put what rows have of former prompts into an empty cache, padded on the left."""
    some = next(prefix for prefix in kept if prefix is not None)
    for layer, (keys, values) in enumerate(some.layers):
        laid = []
        for which, like in enumerate((keys, values)):
            whole = like.new_zeros(len(kept), like.shape[0], first, like.shape[2])
            for row, prefix in enumerate(kept):
                if prefix is not None:
                    whole[row, :, first - len(prefix.tokens) :] = prefix.layers[layer][which]
            laid.append(whole)
        cache.update(*laid, layer)


def _of_row(heard: Heard | None, row: int) -> Any:
    return None if heard is None else lambda piece: heard(row, piece)
