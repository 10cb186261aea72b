"""What can be refused at a glance is, and nothing that PyTorch may yet take."""

from __future__ import annotations

import pytest

from hansa.base.errors import ConfigError
from hansa.experiment import glance


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps"])
def test_a_device_of_pytorch_may_be_there(device: str) -> None:
    glance.check_device_word(device)


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "GPU", ""])
def test_a_word_that_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="is not a torch device"):
        glance.check_device_word(device)


def test_a_kind_that_another_package_brings_is_left_to_pytorch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(glance, "entry_points", lambda group: [group] * (group == "torch.backends"))
    glance.check_device_word("npu:0")
    with pytest.raises(ConfigError, match="is not a torch device"):
        glance.check_device_word("npu zero")
