"""A model's state as one row, there and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hansa.base.errors import ConfigError
from hansa.models import ParameterLayout, frozen_digest, frozen_tensors, shared_copy


@st.composite
def modules(draw):
    """Small chains with plain, normalized, frozen, scalar, empty and integer state."""
    layers = []
    for _ in range(draw(st.integers(0, 4))):
        width = draw(st.integers(1, 4))
        layers.append(
            draw(
                st.sampled_from(
                    [
                        lambda w=width: nn.Linear(w, 3),
                        lambda w=width: nn.Conv2d(w, 2, 3, bias=False),
                        lambda w=width: nn.BatchNorm1d(w),
                        lambda w=width: nn.BatchNorm2d(w, affine=False),
                        lambda w=width: nn.Linear(2, w).requires_grad_(False),
                        lambda: nn.PReLU(),
                        scalar,
                        nn.ReLU,
                    ]
                )
            )()
        )
    return nn.Sequential(*layers)


def scalar() -> nn.Module:
    module = nn.Module()
    module.scale = nn.Parameter(torch.tensor(2.0))
    module.register_buffer("none", torch.empty(0, 3))
    module.register_buffer("mask", torch.tensor([True, False]))
    module.register_buffer("cache", torch.ones(5), persistent=False)
    return module


@given(modules())
def test_layout_covers_the_float_state_once_parameters_first(module):
    layout = ParameterLayout.of(module)
    state = module.state_dict()
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    floats = {name for name, tensor in state.items() if tensor.is_floating_point()} - frozen
    assert set(layout.names) == floats
    assert {b.name for b in layout.integer_buffers} == set(state) - floats - frozen
    assert {tensor.name for tensor in layout.frozen} == frozen == set(frozen_tensors(module))
    assert layout.frozen_numbers == sum(state[name].numel() for name in frozen)
    assert layout.passed == sum(p.numel() for p in module.parameters())
    assert layout.size == sum(state[name].numel() for name in floats)
    assert layout.nbytes == 4 * layout.size
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    assert [e.name for e in layout.entries if e.trainable] == trained
    assert list(layout.names[: len(trained)]) == trained
    assert layout.trainable == sum(p.numel() for p in module.parameters() if p.requires_grad)
    offset = 0
    for entry in layout.entries:
        assert entry.offset == offset
        assert entry.shape == tuple(state[entry.name].shape)
        offset += entry.size
    assert offset == layout.size


@given(modules(), st.integers(0, 99))
def test_load_and_flatten_undo_each_other(module, seed):
    layout = ParameterLayout.of(module)
    row = torch.randn(layout.size, generator=torch.Generator().manual_seed(seed))
    layout.load_(module, row)
    back = layout.flatten(module)
    assert torch.equal(back, row)
    assert layout.size == 0 or back.data_ptr() != row.data_ptr()
    assert ParameterLayout.of(module) == layout


@given(modules())
def test_bound_modules_share_the_row(module):
    layout = ParameterLayout.of(module)
    rows = torch.randn(3, layout.size)
    kept = rows.clone()
    layout.bind(module, rows[1])
    assert torch.equal(layout.flatten(module), rows[1])
    rows[1] += 1
    assert torch.equal(layout.flatten(module), kept[1] + 1)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data.zero_()
    assert rows[1, : layout.trainable].count_nonzero() == 0
    assert torch.equal(rows[[0, 2]], kept[[0, 2]])


@given(modules(), st.lists(st.integers(1, 3), max_size=2))
@settings(max_examples=50)
def test_views_share_memory_under_any_batch(module, lead):
    layout = ParameterLayout.of(module)
    rows = torch.randn(*lead, layout.size)
    for entry, (name, view) in zip(layout.entries, layout.views(rows).items(), strict=True):
        assert name == entry.name
        assert view.shape == (*lead, *entry.shape)
        part = rows[..., entry.offset : entry.offset + entry.size]
        assert torch.equal(view.reshape(*lead, entry.size), part)
        view.fill_(7)
    assert (rows == 7).all()


def test_gradients_land_in_one_flat_tensor():
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).requires_grad_(False))
    module[0].bias.requires_grad_(False)
    layout = ParameterLayout.of(module)
    assert layout.names == ("0.weight",)
    assert [tensor.name for tensor in layout.frozen] == ["0.bias", "1.weight", "1.bias"]
    assert layout.trainable == layout.size == 6
    flat = torch.zeros(layout.trainable)
    layout.bind_grads(module, flat)
    module(torch.ones(4, 3)).sum().backward()
    assert flat.count_nonzero() > 0
    assert module[0].weight.grad.data_ptr() == flat.data_ptr()
    assert torch.equal(module[0].weight.grad.reshape(-1), flat)
    assert module[0].bias.grad is None


@given(modules())
def test_copies_share_what_is_frozen_and_nothing_else(module):
    copied = shared_copy(module)
    frozen = frozen_tensors(module)
    for name, parameter in copied.named_parameters():
        assert (parameter is module.get_parameter(name)) == (name in frozen)
    for name, buffer in copied.named_buffers():
        assert buffer is not module.get_buffer(name)
    before = frozen_digest(module)
    assert frozen_digest(copied) == before
    assert bool(before) == bool(frozen)
    for name, parameter in frozen.items():
        if parameter.numel():
            parameter.data.view(-1)[0] += 1
            assert frozen_digest(copied) != before, name


def test_a_module_may_keep_frozen_numbers_in_its_rows():
    module = nn.Linear(2, 3)
    module.padding = nn.Parameter(torch.zeros(4), requires_grad=False)
    module.in_rows = ("padding",)
    layout = ParameterLayout.of(module)
    assert (layout.names, layout.frozen) == (("weight", "bias", "padding"), ())
    assert (layout.trainable, layout.statistics, layout.size) == (9, 0, 13)
    assert frozen_digest(module) == ""


def test_what_is_frozen_may_be_of_any_type():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).half().requires_grad_(False))
    layout = ParameterLayout.of(module)
    assert layout.size == 6
    assert len(frozen_digest(module)) == 64


def test_training_through_a_bound_row_moves_it_like_the_module():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    layout = ParameterLayout.of(module)
    row = layout.flatten(module)
    layout.bind(module, row)
    flat = torch.zeros(layout.trainable)
    layout.bind_grads(module, flat)
    twin = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    layout.load_(twin, row)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(3):
        x = torch.randn(8, 3)
        module(x).square().sum().backward()
        row[: layout.trainable].sub_(flat, alpha=0.1)
        flat.zero_()
        optimizer.zero_grad()
        twin(x).square().sum().backward()
        optimizer.step()
    assert torch.allclose(layout.flatten(twin), row, atol=1e-6)
    assert module[1].running_mean.data_ptr() == layout.views(row)["1.running_mean"].data_ptr()
    assert module[1].num_batches_tracked == 3


def test_shared_parameters_appear_once():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    layout = ParameterLayout.of(module)
    assert layout.names == ("0.weight", "0.bias", "1.bias")
    row = torch.randn(layout.size)
    layout.bind(module, row)
    assert module[1].weight is module[0].weight
    assert torch.equal(module[1].weight.data.reshape(-1), row[:9])


def test_channels_last_modules_flatten_in_logical_order():
    module = nn.Conv2d(3, 4, 3)
    layout = ParameterLayout.of(module)
    row = layout.flatten(module)
    assert torch.equal(layout.flatten(module.to(memory_format=torch.channels_last)), row)


@pytest.mark.parametrize(
    "row", [torch.zeros(7), torch.zeros(8, dtype=torch.float64), torch.tensor(1.0)]
)
def test_rows_of_the_wrong_form_are_refused(row):
    module = nn.Linear(3, 2)
    layout = ParameterLayout.of(module)
    for use in (layout.views, lambda r: layout.bind(module, r), lambda r: layout.load_(module, r)):
        with pytest.raises(ValueError, match=r"a row is float32 \[\.\.\., 8\]"):
            use(row)


@pytest.mark.parametrize(
    ("module", "name", "problem"),
    [
        (nn.Linear(2, 2).double(), "weight", "float64"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).half()), "1.weight", "float16"),
        (nn.LazyLinear(3), "weight", "no shape yet"),
    ],
)
def test_other_kinds_of_parameters_are_refused(module, name, problem):
    with pytest.raises(ConfigError) as caught:
        ParameterLayout.of(module)
    assert (caught.value.field, caught.value.value) == ("model", name)
    assert problem in caught.value.problem
    assert caught.value.fix
