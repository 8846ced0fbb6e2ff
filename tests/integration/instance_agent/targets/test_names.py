"""What clients ask for is answered alike by every server: the list of tests/contracts/names.py on all but nginx."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.names import NamesContract
from tests.integration.instance_agent.targets import test_caddy
from tests.rigs import haproxy
from tests.rigs.apache import serving_apache
from tests.rigs.embedded import EmbeddedRig, serving
from tests.rigs.targets import Rig


class TestEmbedded(NamesContract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with serving() as target:
            yield EmbeddedRig(target)


class TestCaddy(NamesContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[Rig]:
        async with test_caddy.serving(tmp_path) as rig:
            yield rig


class TestHAProxy(NamesContract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with haproxy.serving() as rig:
            yield rig


class TestApache(NamesContract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with serving_apache() as rig:
            yield rig
