"""Fixtures of the attacks: an account in memory, what acts on it, a scene played there; and a real one of their own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.rigs.attacked import Attacked, attacked
from tests.rigs.emulator import Emulator, emulator
from tests.unit.conftest import cloud, scene, storage

__all__ = ["cloud", "own_azurite", "scene", "site", "storage"]


@pytest.fixture(scope="module")
def own_azurite() -> Iterator[Emulator]:
    """An emulator that no other file's tests use: a sweep acts on everything that is in an account."""
    with emulator() as running:
        yield running


@pytest.fixture
async def site(own_azurite: Emulator, tmp_path: Path) -> AsyncIterator[Attacked]:
    """A real account, empty at first."""
    async with attacked(own_azurite.connection_string, tmp_path) as opened:
        yield opened
