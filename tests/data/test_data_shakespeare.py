"""Roles, windows and the border between what is trained on and what is tested."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hansa.base.errors import DataError
from hansa.base.streams import Streams
from hansa.data import Shakespeare
from hansa.data.sources.shakespeare import ALPHABET, VOCABULARY, encode, speeches

PLAY = "First Citizen:\nSpeak,\nnote this:\nspeak.\n\nAll:\nNo.\n\nFirst Citizen:\nOnce more.\n"


def test_speeches_by_role() -> None:
    assert speeches(PLAY) == {
        "First Citizen": "Speak,\nnote this:\nspeak.\nOnce more.",
        "All": "No.",
    }
    with pytest.raises(DataError, match="no speeches"):
        speeches("just prose\n\nand more")


def test_alphabet_has_92_ids() -> None:
    assert VOCABULARY == 92
    assert len(set(ALPHABET)) == 91
    assert encode("\n {é€\x00").tolist() == [1, 2, ALPHABET.index("{") + 1, 0, 0, 0]


def play(store: Path, text: str) -> None:
    (store / "shakespeare").mkdir()
    (store / "shakespeare" / "input.txt").write_text(text, encoding="utf-8")


def test_no_window_reaches_over_the_border(store: Path, streams: Streams) -> None:
    # Every position of the role's text is a distinct pair of letters, so windows can be located.
    letters = ALPHABET[12:64]
    text = "".join(a + b for a in letters for b in letters)[:1000]
    play(store, f"A:\n{text}\n\nB:\nshort\n")
    data = Shakespeare(sequence_length=9, stride=3, min_samples=2).load(streams)
    assert data.group_names == ("A",)
    train, test = (
        np.column_stack([split.inputs.numpy(), split.targets.numpy()])
        for split in (data.train, data.test)
    )
    ids = encode(text)
    for windows, start, end in ((train, 0, 800), (test, 800, 1000)):
        expected = [ids[at : at + 10] for at in range(start, end - 9, 3)]
        assert np.array_equal(windows, np.stack(expected))
    x, y = data.gather(data.train, torch.tensor([0, 1]))
    assert x.dtype == y.dtype == torch.int64
    assert data.spec.vocabulary == (92,)


def test_too_short_a_text(store: Path, streams: Streams) -> None:
    play(store, PLAY)
    with pytest.raises(DataError, match=r"none of 2 roles(.|\n)*lower min_samples"):
        Shakespeare().load(streams)


def test_not_a_text(store: Path, streams: Streams) -> None:
    play(store, "")
    (store / "shakespeare" / "input.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"input.txt cannot be read"):
        Shakespeare().load(streams)


@pytest.mark.data
def test_the_real_one(real: Path, streams: Streams) -> None:
    data = Shakespeare().load(streams)
    assert len(data.group_names) > 200
    assert 70_000 < len(data.train) < 90_000
    assert (data.train.inputs > 0).all()
    assert data.train.groups is not None
    assert np.bincount(data.train.groups).min() >= 16
