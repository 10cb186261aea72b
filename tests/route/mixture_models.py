"""Tiny models from configurations, and random adapters for them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from hansa.route.answering import Mixture
from hansa.route.slab import AdapterSlab, linears_of

Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


def tiny_bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=40,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False).eval()


def tiny_llama(vocabulary: int = 60) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=24, max_position_embeddings=128,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def tiny_gpt2(vocabulary: int = 60) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary, n_embd=16, n_layer=2, n_head=2, n_positions=64,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def tiny_mistral(vocabulary: int = 60) -> nn.Module:
    """Attention that sees the last four tokens only."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=vocabulary, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=24, max_position_embeddings=128,
        sliding_window=4, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


def random_factors(
    module: nn.Module, seed: int, rank: int = 4, layers: Sequence[str] = (), size: float = 0.3
) -> Factors:
    """Factors for the layers whose names end in one of ``layers``; none: for all."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(rank, inputs, generator=draw) * size,
            torch.randn(outputs, rank, generator=draw) * size,
        )
        for name, (inputs, outputs) in linears_of(module).items()
        if not layers or name.endswith(tuple(layers))
    }


def with_dense(module: nn.Module, slab: AdapterSlab, mixture: Mixture) -> nn.Module:
    """A copy of the model with the mixture's delta in its weights: the plain reference."""
    changed = copy.deepcopy(module)
    modules = dict(changed.named_modules())
    with torch.no_grad():
        for adapter, weight in zip(mixture.adapters, mixture.weights, strict=True):
            for name, (a, b) in slab.factors(slab.name(adapter)).items():
                delta = weight * (b.float() @ a.float())
                transposed = type(modules[name]).__name__ == "Conv1D"
                modules[name].weight += delta.T if transposed else delta
    return changed


def tiny_tokenizer(vocabulary: int = 60) -> Any:
    """Words w3, w4, ...; the text's end is a token of its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2, **{f"w{k}": k for k in range(3, vocabulary)}}
    words["<unk>"] = vocabulary - 1
    words.pop(f"w{vocabulary - 1}")
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        unk_token="<unk>",
    )  # fmt: skip
