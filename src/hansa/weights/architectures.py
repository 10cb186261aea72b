"""How the parameters of known architectures fall into layers and their parts, as data.

Patterns are for canonical names. A stack's layer has a number; a part's pattern stands for the rest
of the name. Each tensor has to match exactly one pattern (see ``blocks``), so they are disjoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stack:
    """Layers that follow each other.

    Attributes:
        layer: pattern of a layer's name, such as ``encoder.layer.3``.
        parts: part of a layer to the pattern of the rest of its tensors' names, in order.
    """

    layer: str
    parts: Mapping[str, str]


@dataclass(frozen=True)
class Architecture:
    """One family of models.

    Attributes:
        before: block to the pattern of its tensors' whole names, for what the input meets first.
        after: the same, for what comes after the layers.
    """

    name: str
    stacks: tuple[Stack, ...]
    before: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)


_BERT = Stack(
    r"encoder\.layer\.\d+",
    {
        "attention": r"attention\.(self|output\.dense)\..+",
        "attention_norm": r"attention\.output\.LayerNorm\..+",
        "cross_attention": r"crossattention\..+",
        "mlp": r"(intermediate|output)\.dense\..+",
        "mlp_norm": r"output\.LayerNorm\..+",
    },
)
_VIT_OUTSIDE = {
    "cls_token": r"embeddings\.(cls_token|mask_token)",
    "position_embeddings": r"embeddings\.position_embeddings",
    "patch_embeddings": r"embeddings\.patch_embeddings\..+",
}
_NORM_AND_POOLER = {"norm": r"(final_)?(layer)?norm\..+", "pooler": r"pooler\..+"}

ARCHITECTURES = (
    Architecture(
        "bert",
        (_BERT,),
        {
            "word_embeddings": r"embeddings\.word_embeddings\.weight",
            "position_embeddings": r"embeddings\.position_(embeddings\.weight|ids)",
            "token_type_embeddings": r"embeddings\.token_type_(embeddings\.weight|ids)",
            "embeddings_norm": r"embeddings\.LayerNorm\..+",
        },
        {"pooler": r"pooler\..+"},
    ),
    Architecture(
        "vit",  # as transformers writes it
        (
            Stack(
                r"encoder\.layer\.\d+",
                {
                    "attention_norm": r"layernorm_before\..+",
                    "attention": r"attention\..+",
                    "mlp_norm": r"layernorm_after\..+",
                    "mlp": r"(intermediate|output)\.dense\..+",
                },
            ),
        ),
        _VIT_OUTSIDE,
        _NORM_AND_POOLER,
    ),
    Architecture(
        "vit",  # as transformers 5 names it in memory
        (
            Stack(
                r"layers\.\d+",
                {
                    "attention_norm": r"layernorm_before\..+",
                    "attention": r"attention\..+",
                    "mlp_norm": r"layernorm_after\..+",
                    "mlp": r"(mlp|intermediate|output)\..+",
                },
            ),
        ),
        _VIT_OUTSIDE,
        _NORM_AND_POOLER,
    ),
    Architecture(
        "t5",
        (
            Stack(
                r"encoder\.block\.\d+",
                {"attention": r"layer\.0\..+", "mlp": r"layer\.1\..+"},
            ),
            Stack(
                r"decoder\.block\.\d+",
                {
                    "attention": r"layer\.0\..+",
                    "cross_attention": r"layer\.1\..+",
                    "mlp": r"layer\.2\..+",
                },
            ),
        ),
        {
            "shared": r"shared\.weight",
            "encoder.embed_tokens": r"encoder\.embed_tokens\.weight",
            "decoder.embed_tokens": r"decoder\.embed_tokens\.weight",
        },
        {
            "encoder.final_layer_norm": r"encoder\.final_layer_norm\..+",
            "decoder.final_layer_norm": r"decoder\.final_layer_norm\..+",
        },
    ),
    Architecture(
        "gpt2",
        (
            Stack(
                r"h\.\d+",
                {
                    "attention_norm": r"ln_1\..+",
                    "attention": r"attn\..+",
                    "mlp_norm": r"ln_2\..+",
                    "mlp": r"mlp\..+",
                },
            ),
        ),
        {"word_embeddings": r"wte\.weight", "position_embeddings": r"wpe\.weight"},
        {"norm": r"ln_f\..+"},
    ),
    Architecture(
        "llama",
        (
            Stack(
                r"layers\.\d+",
                {
                    "attention_norm": r"input_layernorm\..+",
                    "attention": r"self_attn\..+",
                    "mlp_norm": r"post_attention_layernorm\..+",
                    "mlp": r"mlp\..+",
                },
            ),
        ),
        {"embed_tokens": r"embed_tokens\.weight"},
        {"norm": r"norm\.weight"},
    ),
    Architecture(
        "resnet",  # of transformers
        (
            Stack(
                r"encoder\.stages\.\d+\.layers\.\d+",
                {
                    "shortcut": r"shortcut\..+",
                    "convolution_0": r"layer\.0\..+",
                    "convolution_1": r"layer\.1\..+",
                    "convolution_2": r"layer\.2\..+",
                },
            ),
        ),
        {"embedder": r"embedder\..+"},
    ),
    Architecture(
        "resnet",  # of torchvision
        (
            Stack(
                r"layer\d+\.\d+",
                {
                    "shortcut": r"downsample\..+",
                    "convolution_1": r"(conv|bn)1\..+",
                    "convolution_2": r"(conv|bn)2\..+",
                    "convolution_3": r"(conv|bn)3\..+",
                },
            ),
        ),
        {"embedder": r"(conv|bn)1\..+"},
    ),
)
