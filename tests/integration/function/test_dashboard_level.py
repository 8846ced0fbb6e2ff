"""Whether the Functions host asks for a key before it calls the dashboard, as the app declares it."""

import asyncio
import json
import sys

import pytest

from tests.rigs.command_line import clean_environment
from tests.rigs.deployment import ROOT

_LEVEL = """
import json, pathlib
from local_azure.functions_host.index import load_functions
levels = {each.name: str(each.trigger.get("authLevel")) for each in load_functions(pathlib.Path.cwd())}
print(json.dumps(levels))
"""


@pytest.mark.parametrize(("way", "level"), [("", "FUNCTION"), ("off", "FUNCTION"), ("app-service", "ANONYMOUS")])
async def test_is_by_the_setting_and_by_key_where_that_is_wrong(way: str, level: str) -> None:
    settings = {"CERTCAST_DASHBOARD_SIGN_IN": way}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _LEVEL), cwd=ROOT, env=clean_environment(**settings), stdout=asyncio.subprocess.PIPE
    )
    levels = json.loads((await process.communicate())[0])
    assert levels["dashboard"] == level
    assert {name for name, other in levels.items() if other == "ANONYMOUS"} - {"dashboard"} == {"healthz", "openapi"}
