"""The vision transformer against the one that is published."""

import json

import torch
from safetensors.torch import save_file

from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.models import ViT, initial_model

DIGITS = DataSpec("image", (1, 8, 8), 10)


def test_it_gives_the_features_of_transformers_own(tmp_path):
    from transformers import ViTModel

    network = initial_model(ViT(), DIGITS, Streams(3)).eval()
    for parameter in network.parameters():  # biases and norms begin at 0 and 1
        parameter.data += 0.1 * torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())
        )
    backbone = {k: v for k, v in network.state_dict().items() if not k.startswith("classifier")}
    assert sum(tensor.numel() for tensor in backbone.values()) == 26_432
    save_file(backbone, tmp_path / "model.safetensors", {"format": "pt"})
    config = {
        "model_type": "vit", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 64, "patch_size": 4, "image_size": 8, "num_channels": 1,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    published, loading = ViTModel.from_pretrained(
        tmp_path, add_pooling_layer=False, output_loading_info=True
    )
    assert not any(loading[what] for what in ("missing_keys", "unexpected_keys"))
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = published.eval()(x).last_hidden_state[:, 0]
        assert torch.allclose(network.features(x), theirs, atol=1e-5)
        assert torch.equal(network(x), network.classifier(network.features(x)))
