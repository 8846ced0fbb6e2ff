import pytest

from shared.bounded import Delays


@pytest.mark.parametrize(("number", "wait_s"), [(0, 2), (1, 5), (2, 30), (3, 30), (1_000_000, 30)])
def test_each_wait_has_its_number_and_the_last_one_repeats(number: int, wait_s: float) -> None:
    assert Delays((2, 5, 30))[number] == wait_s


def test_one_wait_alone_is_every_wait() -> None:
    assert {Delays((0.5,))[number] for number in range(5)} == {0.5}
