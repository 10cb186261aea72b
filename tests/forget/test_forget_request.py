"""What is to be forgotten, and what cannot be."""

import numpy as np
import pytest

from hansa.base.errors import ConfigError
from hansa.forget import Request, check_request

PARTS = [np.array([0, 1, 2]), np.array([3, 4]), np.array([5])]
HISTOGRAM = np.array([[2, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0]])


def test_requests_add_up_and_survive_a_round_trip() -> None:
    one, other = Request.of(classes=[3, 1, 3]), Request.of(clients=[7], classes=[1])
    assert str(one | other) == "class 1, class 3, client 7"
    assert (one & other) == Request(classes=(1,))
    assert (one | other) - one == Request(clients=(7,))
    assert Request.parse((one | other).dump()) == one | other
    assert (one | other).levels == {"class", "client"}
    assert not Request()


def test_what_a_request_covers() -> None:
    request = Request.of(classes=[2], clients=[1], samples=[5])
    index, labels = np.array([4, 5, 6]), np.array([2, 0, 0])
    assert request.covers(0, index, labels).tolist() == [True, True, False]
    assert request.covers(1, index, labels).all()
    assert request.covers_cell(0, 2)
    assert not request.covers_cell(0, 0)


@pytest.mark.parametrize(
    ("request_", "past", "says"),
    [
        (Request(), Request(), "nothing is named"),
        (Request.of(classes=[4]), Request(), "no such class, they are 0 to 3"),
        (Request.of(clients=[-1]), Request(), "no such client, they are 0 to 2"),
        (Request.of(samples=[9]), Request(), "no client trains on that"),
        (Request.of(classes=[3]), Request(), "no client has an example"),
        (Request.of(classes=[0, 1]), Request.of(classes=[1]), "already forgotten"),
        (Request.of(clients=[0, 1]), Request.of(clients=[2]), "no client would be left"),
        (Request.of(classes=[1, 2]), Request.of(classes=[0]), "no example would be left"),
    ],
)
def test_what_cannot_be_forgotten_is_named(request_: Request, past: Request, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_request(request_, past, HISTOGRAM, PARTS)


def test_what_is_refused_has_its_name() -> None:
    names = ("1", "2", "3", "4")
    for request_, past, called in (
        (Request.of(classes=[0, 1]), Request.of(classes=[1]), "class 2"),
        (Request.of(classes=[3]), Request(), "4"),
    ):
        with pytest.raises(ConfigError) as refused:
            check_request(request_, past, HISTOGRAM, PARTS, names)
        assert refused.value.value == called
