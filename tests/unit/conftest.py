"""Fixtures of the unit tests: an account in memory, what acts on it, and a scene played there."""

import pytest

from shared.function.cloud import Cloud
from tests.fakes.edges import FakeStorage
from tests.rigs.scenes import Scene


@pytest.fixture
def storage() -> FakeStorage:
    return FakeStorage()


@pytest.fixture
def cloud(storage: FakeStorage) -> Cloud:
    return storage.cloud()


@pytest.fixture
def scene(storage: FakeStorage) -> Scene:
    return Scene(storage)
