"""Tasks of one's own, how answers are scored, and encoders."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.cli import main
from hansa.route.answer_scores import ANSWER_SCORES, bleu, contains, exact_match, rouges
from hansa.route.embeddings import centroid, embedded, left_out
from hansa.route.encoders.encoder import Encoder, usable
from hansa.route.encoders.hashing import Hashing
from hansa.route.encoders.sentence_transformer import SentenceTransformer, layout
from hansa.route.encoders.tfidf import TfIdf
from hansa.route.sources.task_folder import read_tasks, read_training

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat", "it"]), max_size=9)


def write_task(folder: Path, name: str, validation: list[str], test: list[str] = (), **facts):  # type: ignore[no-untyped-def, assignment]
    place = folder / name
    place.mkdir(parents=True)
    for split, texts in (("validation", validation), ("test", test)):
        rows = [{"text": t, "answer": "yes", "candidates": ["yes", "no"]} for t in texts]
        (place / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    if facts:
        (place / "task.json").write_text(json.dumps(facts), encoding="utf-8")
    return place


def test_a_folder_of_tasks_is_read_as_it_is_written(tmp_path: Path) -> None:
    write_task(tmp_path, "mood", ["a fine day", "a grey day"], ["a day"], domain="films")
    write_task(tmp_path, "topic", ["a late goal"], metric="contains", adapter="sports v2")
    mood, topic = read_tasks(tmp_path)
    assert (mood.name, mood.domain, mood.own, mood.metric) == (
        "mood", "films", "mood", "exact_match")  # fmt: skip
    assert (topic.domain, topic.own, topic.metric) == ("topic", "sports v2", "contains")
    assert mood.texts() == ["a fine day", "a grey day"]
    assert mood.validation[0].query.candidates == ("yes", "no")
    assert mood.digest() != topic.digest()
    assert main(["route", "tasks", str(tmp_path)]) == 0


def test_a_leak_into_a_test_set_is_named(tmp_path: Path) -> None:
    write_task(tmp_path, "a", ["A  fine day"], [])
    write_task(tmp_path, "b", ["else"], ["a fine DAY"])
    with pytest.raises(ConfigError, match=r"1 of its validation texts stand in the test set of b"):
        read_tasks(tmp_path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is no JSON"),
        ("[]", "is no mapping"),
        ('{"text": " ", "answer": "a"}', "has no text"),
        ('{"text": "x"}', "has no answer"),
        ('{"text": "x", "answer": "a", "candidates": ["b"]}', "is no candidate"),
        ('{"text": "x", "answer": "a", "label": 1}', "is no mapping"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    place = write_task(tmp_path, "a", ["x"])
    (place / "validation.jsonl").write_text("\n" + line, encoding="utf-8")
    with pytest.raises(ConfigError, match=problem) as caught:
        read_tasks(tmp_path)
    assert str(caught.value.value).endswith("validation.jsonl:2")


def test_tasks_without_examples_and_wrong_facts_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_task(tmp_path / "one", "a", [])
    assert main(["route", "tasks", str(tmp_path / "one")]) == 2
    assert "has no validation set" in capsys.readouterr().err
    write_task(tmp_path / "two", "a", ["x"], metric="f2")
    with pytest.raises(ConfigError, match="is no metric"):
        read_tasks(tmp_path / "two")
    write_task(tmp_path / "three", "a", ["x"], speed="high")
    with pytest.raises(ConfigError, match="says speed"):
        read_tasks(tmp_path / "three")
    (tmp_path / "four").mkdir()
    with pytest.raises(ConfigError, match="holds no folder of a task"):
        read_tasks(tmp_path / "four")
    with pytest.raises(ConfigError, match="is no folder"):
        read_tasks(tmp_path / "five")


def test_training_texts_do_not_stand_in_a_test_set(tmp_path: Path) -> None:
    place = write_task(tmp_path, "a", ["x"], ["y z"])
    row = {"text": "Y z", "answer": "yes"}
    (place / "train.jsonl").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(ConfigError, match="stands in the test set of a"):
        read_training(tmp_path, read_tasks(tmp_path))


def test_exact_match_and_contains_by_hand() -> None:
    assert exact_match(" Yes. ", "yes\n\nor so") == 1
    assert exact_match("yes it is", "yes") == 0
    assert contains("I say Yes", "yes", ["yes", "no"]) == 1
    assert contains("yes or no", "yes", ["yes", "no"]) == 0
    assert contains("eyes", "yes", ["yes", "no"]) == 0
    assert contains("it is not good", "not good", ["good", "not good"]) == 1


def test_bleu_and_rouge_by_hand() -> None:
    # 1-grams 5/6, 2-grams 4/5, 3-grams 3/4, 4-grams 2/3; longer than its reference: no penalty.
    said, wanted = "the cat sat on the mat", "the cat sat on the"
    expected = (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    assert bleu(said, wanted) == pytest.approx(expected)
    penalty = math.exp(1 - 6 / 5)
    assert bleu(wanted, said) == pytest.approx(penalty)
    assert bleu("the cat sat", "the cat sat") == 0  # no 4-gram
    one, two, longest = rouges("the cat sat down", "the cat lay down")
    assert (one, two, longest) == pytest.approx((3 / 4, 1 / 3, 3 / 4))


@given(WORDS, WORDS)
def test_scores_lie_between_0_and_1_and_are_1_of_the_same(one: list[str], other: list[str]) -> None:
    for name, score in ANSWER_SCORES.items():
        assert 0 <= score(" ".join(one), " ".join(other), ()) <= 1
        if len(one) >= 4:
            assert score(" ".join(one), " ".join(one), ()) == pytest.approx(1), name


def test_word_weights_are_those_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["the cat sat", "the dog sat down", "a dog and a cat", "nobody"]
    theirs = TfidfVectorizer(token_pattern=r"\w+", dtype=np.float32).fit(texts)
    ours = TfIdf().fitted(texts)
    asked = [*texts, "the cat, the cat and nobody else"]
    np.testing.assert_allclose(ours.embed(asked), theirs.transform(asked).toarray(), atol=1e-6)


def test_new_words_leave_former_vectors_as_they_were() -> None:
    before = TfIdf().fitted(["the cat sat", "the dog"])
    after = before.grown(["a bird sat", "a bird"])
    old, new = before.embed(["the cat"]), after.embed(["the cat", "a bird"])
    width = old.shape[1]
    np.testing.assert_array_equal(new[0, :width], old[0])
    assert not new[0, width:].any()
    assert new[1, width:].any()


@pytest.mark.parametrize("encoder", [TfIdf(), TfIdf(pairs=True), Hashing(size=64)])
def test_an_encoder_comes_back_from_its_state(encoder: Encoder) -> None:
    texts = ["the cat sat", "the dog sat down"]
    fitted = encoder.fitted(texts)
    again = Encoder.resolve(encoder.dump()).restored(json.loads(json.dumps(fitted.state())))
    np.testing.assert_array_equal(fitted.embed(texts), again.embed(texts))


def test_a_text_without_a_direction_is_refused() -> None:
    with pytest.raises(ConfigError, match="is zero"):
        embedded(TfIdf().fitted(["the cat"]), ["unheard"])
    with pytest.raises(ConfigError, match="is not finite"):
        usable(np.array([[1.0, np.nan]]), ["x"])
    with pytest.raises(ConfigError, match="lies nowhere"):
        centroid(np.array([[1.0, 0], [-1, 0]]))


def test_what_is_left_out_does_not_count() -> None:
    vectors = usable(np.random.default_rng(0).normal(size=(6, 4)), ["x"] * 6)
    for k, cosine in enumerate(left_out(vectors)):
        others = centroid(np.delete(vectors, k, 0))
        assert cosine == pytest.approx(float(others @ vectors[k]), abs=1e-6)


def test_encoders_are_components_and_a_sentence_encoder_says_what_it_needs(tmp_path: Path) -> None:
    assert {"tfidf", "hashing", "sentence_transformer"} <= set(catalogue("encoder"))
    with pytest.raises(ConfigError, match="nothing is downloaded"):
        SentenceTransformer(model="nobody/nothing").check()
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        SentenceTransformer(model=str(tmp_path)).check()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match="nothing is unpickled"):
        SentenceTransformer(model=str(tmp_path)).check()
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2_Dense"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match="a module Dense"):
        layout(tmp_path)


def test_a_sentence_encoder_is_the_mean_of_a_transformers_tokens(tmp_path: Path) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {word: k for k, word in enumerate(["[PAD]", "[UNK]", "a", "cat", "sat", "down"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=6, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=8)  # fmt: skip
    model = BertModel(config).eval()
    model.save_pretrained(tmp_path)
    encoder = SentenceTransformer(model=str(tmp_path), batch_size=2).fitted(())
    texts = ["a cat", "a cat sat down", "sat"]
    rows = encoder.embed(texts)
    for text, row in zip(texts, rows, strict=True):
        ids = torch.tensor([[words[word] for word in text.split()]])
        with torch.no_grad():
            mean = model(input_ids=ids).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), atol=1e-5)
