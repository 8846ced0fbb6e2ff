"""A value that a test needs to be there."""

from typing import TypeVar

T = TypeVar("T")


def some(value: T | None) -> T:
    """The value; fails the test where there is none."""
    assert value is not None, "it is not there"
    return value
