"""Tiny models of real architectures, by name."""

from __future__ import annotations

from typing import Any

import torch

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEXT = {"vocab_size": 30, "max_position_embeddings": 16}
LLAMA = {**SMALL, "vocab_size": 30}
GPT = {"vocab_size": 30, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
ENDS = {"bos_token_id": 0, "eos_token_id": 1}
T5 = {"vocab_size": 30, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
VIT = {**SMALL, "image_size": 8, "patch_size": 4, "num_channels": 1}
RESNET = {
    "num_channels": 1,
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 2],
    "layer_type": "basic",
}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", {**SMALL, **TEXT}),
    "bert_classifier": ("BertForSequenceClassification", "BertConfig", {**SMALL, **TEXT}),
    "bert_masked": ("BertForMaskedLM", "BertConfig", {**SMALL, **TEXT}),
    "vit": ("ViTModel", "ViTConfig", VIT),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**LLAMA, "tie_word_embeddings": True}),
    "llama_untied": ("LlamaForCausalLM", "LlamaConfig", {**LLAMA, "tie_word_embeddings": False}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {**GPT, **ENDS}),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5),
    "resnet": ("ResNetModel", "ResNetConfig", RESNET),
}


def made(name: str, seed: int = 0) -> Any:
    """One of the tiny models, with random weights."""
    import transformers

    model, config, settings = MODELS[name]
    torch.manual_seed(seed)
    return getattr(transformers, model)(getattr(transformers, config)(**settings))
