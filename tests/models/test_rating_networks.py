"""Models of ratings: their form, and steps one rating at a time against a plain loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.models import Model, ParameterLayout, initial_model
from hansa.models.rating_networks import Factors

U, I = 5, 6  # noqa: E741
SPEC = DataSpec("pairs", (2,), 1, "regression", (U, I))
FORMS = [
    {"factors": 3},
    {"factors": 2, "biases": False, "mean": "none"},
    {"factors": 1, "mean": "fixed", "start": 3.5},
    {"factors": 4, "mean": "none", "unit": 0.5, "init": "one_vector"},
    {"factors": 2, "start": 3.0, "unit": 0.5},
]
forms = st.sampled_from(FORMS)


def make(seed=0, name="matrix_factorization", **form):
    return initial_model(Model.resolve({"name": name, **form}), SPEC, Streams(seed))


def some_rows(network, n, seed):
    """Rows of random numbers, zeros in what fills up groups, and the layout."""
    layout = ParameterLayout.of(network)
    rows = torch.zeros(n, layout.size)
    generator = torch.Generator().manual_seed(seed)
    rows[:, : layout.trainable].normal_(std=0.5, generator=generator)
    return rows, layout


def some_steps(n, count, seed):
    random = np.random.default_rng(seed)
    pairs = np.stack([random.integers(0, U, count), random.integers(0, I, count)], axis=1)
    stars = random.integers(1, 11, count).astype(np.float32) / 2
    cuts = np.sort(random.integers(0, count + 1, n - 1))
    return np.concatenate([[0], cuts, [count]]).astype(np.int64), pairs, stars


def plainly(row, form, pairs, stars, lr, decay):
    """The steps of section 1.5 of the reference, in float64: (row, squared errors)."""
    k, unit = form["factors"], form.get("unit", 1.0)
    mean, biases = form.get("mean", "learned"), form.get("biases", True)
    row = row.astype(np.float64)
    squares = []
    for (u, i), r in zip(pairs, stars, strict=True):
        x, y = row[u * (k + 1) :][: k + 1], row[(U + i) * (k + 1) :][: k + 1]
        prediction = x[:k] @ y[:k] + biases * (x[k] + y[k])
        if mean == "learned":
            prediction += row[(U + I) * (k + 1)]
        if mean == "fixed":
            prediction += form["start"] / unit
        e = r / unit - prediction
        squares.append((unit * e) ** 2)
        y[:k] = (1 - lr * decay) * y[:k] + lr * e * x[:k]
        x[:k] = (1 - lr * decay) * x[:k] + lr * e * y[:k]
        if biases:
            x[k] += lr * e
            y[k] += lr * e
        if mean == "learned":
            row[(U + I) * (k + 1)] += lr * e
    return row, squares


def test_one_step_is_the_one_worked_out_by_hand():
    """x = (1, 2), y = (3, 1), a = 0.5, b = 0.25: p = 5.75, r = 8 half stars, e = 2.25."""
    network = make(factors=2, mean="none", unit=0.5)
    rows = torch.zeros(1, (U + I) * 3)
    x, y = rows[0, 3:6], rows[0, (U + 2) * 3 :][:3]
    x.copy_(torch.tensor([1, 2, 0.5]))
    y.copy_(torch.tensor([3, 1, 0.25]))
    pair, stars = np.array([[1, 2]]), np.array([4.0], np.float32)
    squares = network.descend_(rows, np.array([0, 1]), pair, stars, lr=0.1, decay=0.2)
    assert squares == pytest.approx([1.125**2])
    # y first: 0.98 (3, 1) + 0.225 (1, 2); then x: 0.98 (1, 2) + 0.225 of the new y.
    assert y.numpy() == pytest.approx([3.165, 1.43, 0.475])
    assert x.numpy() == pytest.approx([0.98 + 0.225 * 3.165, 1.96 + 0.225 * 1.43, 0.725])


@settings(max_examples=25)
@given(forms, st.integers(1, 3), st.integers(0, 30), st.integers(0, 2**16))
def test_steps_are_those_of_a_plain_loop(form, n, count, seed):
    network = make(**form)
    rows, _ = some_rows(network, n, seed)
    indptr, pairs, stars = some_steps(n, count, seed)
    before = rows.numpy().copy()
    squares = network.descend_(rows, indptr, pairs, stars, 0.05, 0.1)
    for k in range(n):
        span = slice(indptr[k], indptr[k + 1])
        row, errors = plainly(before[k], form, pairs[span], stars[span], 0.05, 0.1)
        assert rows[k].numpy() == pytest.approx(row, abs=2e-5)
        if errors:
            assert squares[k] == pytest.approx(np.mean(errors), rel=1e-4, abs=1e-5)
        else:
            assert np.isnan(squares[k])
            assert (rows[k].numpy() == before[k]).all()


@given(st.integers(2, 5), st.integers(0, 40), st.integers(0, 2**16), st.integers(1, 4))
@settings(max_examples=10)
def test_a_split_of_the_rows_changes_no_bit(n, count, seed, cut):
    network = make(factors=3)
    rows, _ = some_rows(network, n, seed)
    parts = rows.clone()
    indptr, pairs, stars = some_steps(n, count, seed)
    network.descend_(rows, indptr, pairs, stars, 0.05, 0.1)
    for some in np.array_split(np.arange(n), cut):
        if len(some):
            first, last = indptr[some[0]], indptr[some[-1] + 1]
            mine = parts[some[0] : some[-1] + 1]
            network.descend_(
                mine, indptr[some[0] : some[-1] + 2] - first, pairs[first:last],
                stars[first:last], 0.05, 0.1,
            )  # fmt: skip
    assert torch.equal(rows, parts)


@pytest.mark.parametrize("form", [*FORMS, {"name": "neural_recommender", "embedding": 3}])
def test_all_ways_to_ask_for_ratings_agree(form):
    network = make(seed=3, **form)
    rows, layout = some_rows(network, 1, 5)
    assert layout.size == network.groups * network.group
    layout.load_(network, rows[0])
    every = torch.cartesian_prod(torch.arange(U), torch.arange(I))
    with torch.no_grad():
        wanted = network(every)[:, 0]
        assert network(every.view(U, I, 2)).shape == (U, I, 1)
        assert torch.allclose(network.pairs(every[:, 0], every[:, 1]), wanted)
        assert torch.allclose(network.scores(torch.arange(U)).reshape(-1), wanted, atol=1e-6)
        assert network.scores(torch.arange(0)).shape == (0, I)
        called = functional_call(network, layout.views(rows[0]), (every,))[:, 0]
        assert torch.allclose(called, wanted)
    if isinstance(network, Factors):
        rated = network.rated(rows, np.array([0, len(every)]), every.numpy())
        assert rated == pytest.approx(wanted.numpy(), abs=1e-5)


def test_the_scale_says_where_a_model_starts_and_what_its_unit_is():
    wide = DataSpec("pairs", (2,), 1, "regression", (U, I), (0.0, 90.0))
    pair = torch.tensor([1, 2])
    for name in ("matrix_factorization", "neural_recommender"):
        network = initial_model(Model.resolve(name), wide, Streams(0))
        assert abs(network(pair).item() - 45) < 1
        assert abs(initial_model(Model.resolve(name), SPEC, Streams(0))(pair).item()) < 1
    assert initial_model(Model.resolve("matrix_factorization"), wide, Streams(0)).unit == 20
    own = Model.resolve({"name": "matrix_factorization", "start": 0.0, "unit": 2.0})
    network = initial_model(own, wide, Streams(0))
    assert network.unit == 2
    assert network(pair).item() == 0


def test_groups_begin_with_users_then_items():
    for name in ("matrix_factorization", "neural_recommender"):
        network = make(name=name)
        rows, layout = some_rows(network, 1, 0)
        groups = rows.view(network.groups, network.group)
        views = layout.views(rows[0])
        assert torch.equal(groups[:U], views["users.weight"])
        assert torch.equal(groups[U : U + I], views["items.weight"])


def test_the_reference_starts_all_from_one_vector_and_the_lowest_half_star():
    network = make(factors=10, mean="none", unit=0.5, init="one_vector")
    both = torch.cat([network.users.weight, network.items.weight]).detach()
    assert (both == both[0]).all()
    assert both[0, -1] == 1
    assert 0 <= both[0, :-1].min() < both[0, :-1].max() < 0.9**0.5
    product = float((both[0, :-1] ** 2).sum())
    assert network(torch.tensor([0, 0])).item() == pytest.approx((2 + product) / 2)


def test_small_numbers_at_first_predict_the_mean():
    for unit in (0.5, 1.0):
        for mean in ("learned", "fixed"):
            network = make(mean=mean, start=3.5, unit=unit)
            assert network(torch.tensor([[3, 5], [0, 0]]))[:, 0].tolist() == [3.5, 3.5]
            assert 0.04 < network.items.weight.abs().max() <= 0.05


@given(st.integers(0, 2**16))
@settings(max_examples=5)
def test_who_has_no_ratings_is_given_the_mean_and_the_other_s_bias(seed):
    network = make(seed, factors=3)
    known = torch.cartesian_prod(torch.arange(4), torch.arange(5))
    stars = torch.arange(20.0)[:, None] % 5 + 1
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(network(known), stars).backward()
        optimizer.step()
    with torch.no_grad():
        mean, users, items = network.shared["mean"][0], network.users.weight, network.items.weight
        assert torch.allclose(network(torch.tensor([4, 2]))[0], mean + items[2, -1])
        cold = network(torch.tensor([1, 5]))[0] - mean - users[1, -1]
        assert cold.abs() <= 0.05 * users[1, :-1].abs().sum()


def test_what_is_no_pair_or_no_row_is_refused():
    network = make(factors=2)
    rows, _ = some_rows(network, 1, 0)
    one, stars = np.array([0, 1]), np.ones(1, np.float32)
    for pair in ([U, 0], [0, I], [-1, 0]):
        with pytest.raises(ValueError, match="none of 5 users, 6 items"):
            network.descend_(rows, one, np.array([pair]), stars, 0.1, 0.1)
        with pytest.raises(ValueError, match="none of 5 users"):
            network.rated(rows, one, np.array([pair]))
    with pytest.raises(ValueError, match="float64 on cpu"):
        network.descend_(rows.double(), one, np.array([[0, 0]]), stars, 0.1, 0.1)
