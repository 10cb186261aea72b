"""Pretrained transformers, whole and with adapters, held to transformers and PEFT themselves."""

import json
from pathlib import Path

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from hansa.base.errors import ConfigError
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.models import LowRank, ParameterLayout, Transformers, frozen_digest, initial_model
from hansa.models.adapted_networks import _config
from hansa.models.label_text import SentenceEncoder

from .tiny_encoders import WORDS, write_encoder

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
LABELS = ("red", "blue", "good")
SMALL = DataSpec("tokens", (8,), 3, vocabulary=(40,), padding=0, labels=LABELS)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def spec(base: Path) -> DataSpec:
    words = len(AutoTokenizer.from_pretrained(base))
    return DataSpec("tokens", (12,), 3, vocabulary=(words,), padding=0, labels=LABELS)


def ids_of(base: Path, said: list[str], length: int = 12) -> torch.Tensor:
    rows = AutoTokenizer.from_pretrained(base)(said, padding="max_length", max_length=length)
    return torch.tensor(rows["input_ids"])


def trained(module: torch.nn.Module, seed: int = 0) -> ParameterLayout:
    """Give the trained numbers of a network others than the first ones."""
    layout = ParameterLayout.of(module)
    row = layout.flatten(module)
    layout.load_(
        module, row + 0.1 * torch.randn(len(row), generator=torch.Generator().manual_seed(seed))
    )
    return layout


@pytest.mark.parametrize("freeze_a", [False, True])
@pytest.mark.parametrize("head", ["linear", "label_text"])
def test_only_adapters_and_head_are_a_row(base, spec, head, freeze_a) -> None:
    form = Transformers(base=str(base), head=head, peft=LowRank(r=2, freeze_a=freeze_a))
    module = initial_model(form, spec, Streams(1))
    layout = ParameterLayout.of(module)
    for name in layout.names:
        assert ".lora_" in name or ".modules_to_save." in name, name
    sides = {side for side in ("lora_A", "lora_B") if any(side in n for n in layout.names)}
    assert sides == ({"lora_B"} if freeze_a else {"lora_A", "lora_B"})
    head_numbers = 0 if head == "label_text" else 16 * 3 + 3
    # 2 layers of four 16 x 16, one 16 x 32 and one 32 x 16 matrix.
    a, b = 2 * 2 * (4 * 16 + 16 + 32), 2 * 2 * (4 * 16 + 32 + 16)
    assert layout.size == layout.trainable == head_numbers + b + (0 if freeze_a else a)
    assert layout.frozen_numbers > 4000
    assert frozen_digest(module) == frozen_digest(initial_model(form, spec, Streams(1)))


def test_without_adapters_all_is_a_row(base, spec) -> None:
    module = initial_model(Transformers(base=str(base)), spec, Streams(1))
    layout = ParameterLayout.of(module)
    assert layout.frozen == ()
    assert layout.trainable == sum(p.numel() for p in module.parameters())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(1, 39), min_size=1, max_size=8), min_size=1, max_size=4))
def test_scores_do_not_depend_on_padding(rows: list[list[int]]) -> None:
    form = Transformers(hidden=8, layers=1)
    module = initial_model(form, SMALL, Streams(1)).eval()
    ids = torch.zeros(len(rows), 8, dtype=torch.int64)
    for k, row in enumerate(rows):
        ids[k, : len(row)] = torch.tensor(row)
    with torch.no_grad():
        together = module(ids)
        for k, row in enumerate(rows):
            alone = module.network(input_ids=torch.tensor([row])).logits
            torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-5)


def test_the_mark_at_the_end_may_fill_up_and_stand_within() -> None:
    module = initial_model(Transformers(hidden=8, layers=1), SMALL, Streams(1))
    ids, mask = module.cut(torch.tensor([[5, 0, 7, 0, 0, 0, 0, 0], [0] * 8]))
    assert ids.tolist() == [[5, 0, 7], [0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("freeze_a", [False, True])
def test_peft_reads_what_is_written_and_answers_alike(base, spec, tmp_path, freeze_a) -> None:
    form = Transformers(base=str(base), peft=LowRank(r=2, freeze_a=freeze_a))
    module = initial_model(form, spec, Streams(1))
    trained(module)
    module.eval()
    form.write_folder(module, tmp_path / "adapter")
    form.write_folder(module, tmp_path / "merged", merged=True)
    assert {p.name for p in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    ids = ids_of(base, ["w1 w2 red", "good w3", "w5"])
    mask = ids.ne(0).long()
    bare = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    theirs = peft.PeftModel.from_pretrained(bare, tmp_path / "adapter").eval()
    whole = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        ours = module(ids)
        torch.testing.assert_close(theirs(input_ids=ids, attention_mask=mask).logits, ours)
        merged = whole(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(merged, ours, rtol=1e-4, atol=1e-5)
    assert whole.config.id2label == dict(enumerate(LABELS))


def test_label_text_scores_are_cosines_to_the_words_as_the_base_reads_them(
    base, spec, tmp_path
) -> None:
    form = Transformers(base=str(base), head="label_text", peft=LowRank(r=2), temperature=0.5)
    module = initial_model(form, spec, Streams(1))
    trained(module)
    form.write_folder(module, tmp_path / "adapter")
    before = SentenceEncoder.open(base)
    tuned = SentenceEncoder.open(base)
    tuned.module = peft.PeftModel.from_pretrained(
        AutoModel.from_pretrained(base), tmp_path / "adapter"
    ).eval()
    said = ["w1 w2 red", "good w3", "w5"]
    wanted = tuned.embed(said) @ before.embed(list(LABELS)).T / 0.5
    with torch.no_grad():
        scores = module.eval()(ids_of(base, said))
    torch.testing.assert_close(scores, wanted, rtol=1e-4, atol=1e-5)


def test_a_base_without_files_is_written_beside_its_adapters(tmp_path) -> None:
    form = Transformers(hidden=8, layers=1, peft=LowRank(r=2))
    module = initial_model(form, SMALL, Streams(3))
    trained(module)
    form.write_folder(module, tmp_path / "adapter")
    bare = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "adapter" / "base", num_labels=3
    )
    theirs = peft.PeftModel.from_pretrained(bare, tmp_path / "adapter").eval()
    ids = torch.tensor([[1, 5, 6, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        got = theirs(input_ids=ids, attention_mask=ids.ne(0).long()).logits
        torch.testing.assert_close(got, module.eval()(ids))


@pytest.mark.parametrize(
    ("more", "field", "problem", "fix"),
    [
        ({"peft": {"target_modules": ["qury"]}}, "peft.target_modules", "no linear layer", "query"),
        ({"peft": {"target_modules": ["LayerNorm"]}}, "peft.target_modules", "linear", "such as"),
        ({"peft": {"modules_to_save": ["poler"]}}, "peft.modules_to_save", "no module", "pooler"),
        ({"base": "/nowhere/at/all"}, "base", "no such folder", "save_pretrained"),
        ({"base": None, "head": "label_text"}, "head", "knows the labels", "model.base"),
    ],
)
def test_what_cannot_be_built_is_named(base, spec, more, field, problem, fix) -> None:
    form = Transformers.parse({"base": str(base), **more})
    with pytest.raises(ConfigError) as caught:
        initial_model(form, spec, Streams(1))
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert fix in caught.value.fix


def test_data_of_another_tokenizer_or_kind_are_refused(base, spec) -> None:
    form = Transformers(base=str(base))
    for other, said in [
        (DataSpec("tokens", (12,), 3, vocabulary=(5000,), padding=0), "knows 50 tokens"),
        (DataSpec("tokens", (99,), 3, vocabulary=(50,), padding=0), "takes 32 tokens at most"),
        (DataSpec("tokens", (12,), 3, vocabulary=(50,)), "ids of their own"),
        (DataSpec("table", (12,), 3), "takes data of kind tokens"),
    ]:
        with pytest.raises(ConfigError, match=said):
            initial_model(form, other, Streams(1))
    numbered = DataSpec("tokens", (12,), 2, vocabulary=(50,), padding=0, labels=("0", "1"))
    with pytest.raises(ConfigError, match="these have numbers"):
        initial_model(Transformers(base=str(base), head="label_text"), numbered, Streams(1))


def test_words_that_the_tests_use_are_there() -> None:
    assert {*LABELS} <= {*WORDS}


def test_a_base_by_the_name_of_its_package_is_written_without_the_hub(
    base, spec, tmp_path, monkeypatch
) -> None:
    """The name means a folder here; what is written is read from there, not asked of the hub."""
    monkeypatch.setattr("hansa.models.pretrained.pretrained_place", lambda name, field: str(base))
    form = Transformers(base="nobody/has-this", peft=LowRank(r=2))
    module = initial_model(form, spec, Streams(1))
    form.write_folder(module, tmp_path / "whole", merged=True)
    assert (tmp_path / "whole" / "tokenizer.json").is_file()


def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(tmp_path: Path) -> None:
    own = {"AutoConfig": "odd.OddConfig", "AutoModel": "odd.Odd"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "odd", "auto_map": own}))
    (tmp_path / "odd.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ConfigError, match="brings code of its own, which hansa does not run"):
        _config(str(tmp_path), Transformers(base=str(tmp_path)))
