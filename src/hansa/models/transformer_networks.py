"""The networks of vision transformers; loaded when one is built."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hansa.models.model import chain

_DEVIATION = 0.02  # of what matrices are drawn from
_EPSILON = 1e-12  # of layer normalization, as published


class Embeddings(nn.Module):
    """Images [B, C, H, W] -> tokens [B, 1 + patches, hidden]: the class token is the first."""

    def __init__(self, channels: int, patch: int, patches: int, hidden: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(_DEVIATION * torch.randn(1, 1, hidden))
        self.position_embeddings = nn.Parameter(_DEVIATION * torch.randn(1, patches + 1, hidden))
        self.patch_embeddings = chain(projection=nn.Conv2d(channels, hidden, patch, patch))

    def forward(self, x: Tensor) -> Tensor:
        """The tokens, each with its place added."""
        patches = self.patch_embeddings(x).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(x.shape[0], -1, -1)
        return torch.cat([first, patches], 1) + self.position_embeddings


class Attention(nn.Module):
    """Multi-head attention of all tokens to all, [B, T, hidden] -> [B, T, hidden]."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        names = ("query", "key", "value")
        self.attention = nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in names})
        self.output = chain(dense=nn.Linear(hidden, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """What the tokens take from each other."""
        query, key, value = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, T, d]
            for part in self.attention.values()
        )
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        return self.output((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm and beside a shortcut."""

    def __init__(self, hidden: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.attention = Attention(hidden, heads)
        self.intermediate = chain(dense=nn.Linear(hidden, mlp))
        self.output = chain(dense=nn.Linear(mlp, hidden))
        self.layernorm_before = nn.LayerNorm(hidden, eps=_EPSILON)
        self.layernorm_after = nn.LayerNorm(hidden, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] -> [B, T, hidden]."""
        x = x + self.attention(self.layernorm_before(x))
        return x + self.output(functional.gelu(self.intermediate(self.layernorm_after(x))))


class VisionTransformer(nn.Module):
    """Images [B, C, H, W] -> scores [B, outputs].

    Args:
        form: (channels, pixels of a patch's side, patches of an image).
    """

    def __init__(
        self,
        form: tuple[int, int, int],
        hidden: int,
        layers: int,
        heads: int,
        mlp: int,
        outputs: int,
    ) -> None:
        super().__init__()
        self.embeddings = Embeddings(*form, hidden)
        blocks = [Block(hidden, heads, mlp) for _ in range(layers)]
        self.encoder = chain(layer=chain(**{str(k): block for k, block in enumerate(blocks)}))
        self.layernorm = nn.LayerNorm(hidden, eps=_EPSILON)
        self.classifier = nn.Linear(hidden, outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=_DEVIATION)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def features(self, x: Tensor) -> Tensor:
        """The class token behind the last norm [B, hidden]."""
        return self.layernorm(self.encoder(self.embeddings(x))[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes."""
        return self.classifier(self.features(x))
