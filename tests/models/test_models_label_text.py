"""Label-text scoring and the loop that trains with it, on an encoder of a few thousand numbers."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from hansa.base.errors import ConfigError, Diverged
from hansa.models.fine_tuning import FineTuning, _batches, fine_tune
from hansa.models.label_text import Labels, SentenceEncoder, label_text_accuracy, label_text_loss

from .tiny_encoders import write_encoder

TEXTS = ["w1 w2 good", "w3", "bad w4 w5 w6 w7 w8", "w9 blue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def test_vectors_are_means_of_the_tokens_and_know_no_padding(folder: Path) -> None:
    encoder = SentenceEncoder.open(folder)
    together = encoder.embed(TEXTS, batch_size=3)
    for text, vector in zip(TEXTS, together, strict=True):
        ids = torch.tensor([encoder.tokenizer(text)["input_ids"]])
        mean = encoder.module(input_ids=ids).last_hidden_state[0].mean(0)
        assert torch.allclose(vector, mean / mean.norm(), atol=1e-6)


def test_long_sentences_are_cut_and_no_sentences_are_no_vectors(folder: Path) -> None:
    encoder = SentenceEncoder.open(folder, max_tokens=4)
    assert encoder.tokens(["w1 w2 w3 w4"]) == encoder.tokens(["w1 w2"])
    assert len(encoder.embed([])) == 0


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no config"):
        SentenceEncoder.open(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be opened"):
        SentenceEncoder.open(tmp_path)


def test_labels_are_embedded_once(folder: Path) -> None:
    encoder = SentenceEncoder.open(folder)
    labels = Labels(encoder)
    first = labels.vectors(["good", "bad"])
    for parameter in encoder.module.parameters():
        parameter.data.mul_(1.5)
    assert torch.equal(labels.vectors(["bad", "good"]), first[[1, 0]])
    assert torch.equal(labels.vectors(["good", "w1"])[0], first[0])


def trained(folder: Path, **settings: object) -> tuple[SentenceEncoder, float, float, list[float]]:
    """Two classes told apart by two words: (encoder, accuracy before, after, losses)."""
    encoder = SentenceEncoder.open(folder)
    rng = np.random.default_rng(0)
    right = rng.integers(2, size=120)
    noise = [" ".join(f"w{k}" for k in rng.integers(40, size=4)) for _ in right]
    texts = [f"{text} {('red', 'blue')[y]}" for text, y in zip(noise, right, strict=True)]
    labels = Labels(encoder).vectors(["bad", "good"])
    rows = encoder.tokens(texts)
    before = label_text_accuracy(encoder, texts, right.tolist(), labels)
    targets = torch.tensor(right)
    tuned = fine_tune(
        encoder.module,
        lambda of: label_text_loss(
            encoder.pooled([rows[k] for k in of]), labels, targets[of], 0.05
        ),
        [len(row) for row in rows],
        FineTuning.model_validate({"steps": 60, "batch_size": 16, "lr": 3e-3, **settings}),
    )
    after = label_text_accuracy(encoder, texts, right.tolist(), labels)
    return encoder, before, after, list(tuned.losses)


def test_training_teaches_and_repeats_itself_to_the_bit(folder: Path) -> None:
    encoder, before, after, losses = trained(folder)
    torch.manual_seed(12)  # nobody else's draws matter
    again = trained(folder)[0]
    assert after > max(0.9, before + 0.2)
    assert losses[-1] < losses[0]
    assert not encoder.module.training
    for one, two in zip(encoder.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(one, two)


def test_only_what_requires_a_gradient_is_trained(folder: Path) -> None:
    encoder = SentenceEncoder.open(folder)
    before = copy.deepcopy(encoder.module.state_dict())
    encoder.module.embeddings.requires_grad_(False)
    rows = encoder.tokens(TEXTS)
    labels = torch.nn.functional.normalize(torch.eye(2, 16), dim=1)

    def loss(of: list[int]) -> torch.Tensor:
        vectors = encoder.pooled([rows[k] for k in of])
        return label_text_loss(vectors, labels, torch.tensor([k % 2 for k in of]), 0.1)

    fine_tune(encoder.module, loss, [4, 3, 7, 4], FineTuning(steps=2, lr=0.1, bfloat16=True))
    for name, value in encoder.module.state_dict().items():
        frozen = name.startswith(("embeddings.", "pooler."))  # nothing leads to the pooler
        assert torch.equal(value, before[name]) == frozen, name
        assert value.dtype == before[name].dtype


def test_what_cannot_be_trained_is_refused() -> None:
    layer = torch.nn.Linear(1, 1)
    with pytest.raises(Diverged, match="step 1"):
        fine_tune(layer, lambda of: layer.weight.sum() * torch.nan, [1], FineTuning())
    assert layer.training
    with pytest.raises(ValueError, match="nothing to train"):
        fine_tune(layer.requires_grad_(False), lambda of: layer.weight.sum(), [1], FineTuning())


def test_an_epoch_takes_each_example_once_in_batches_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, size=500).tolist()
    settings = FineTuning(batch_size=10, seed=4)
    batches = _batches(lengths, settings)
    epochs = [[next(batches) for _ in range(50)] for _ in range(2)]
    for epoch in epochs:
        assert sorted(k for batch in epoch for k in batch) == list(range(500))
        spread = np.mean([np.ptp([lengths[k] for k in batch]) for batch in epoch])
        assert spread < 10  # of 49
    assert epochs[0] != epochs[1]
    assert settings.steps_for(500) == 50
    assert FineTuning(epochs=0.5, batch_size=10).steps_for(501) == 26
