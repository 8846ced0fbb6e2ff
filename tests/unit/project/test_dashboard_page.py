"""The page on the dashboard: what it has Azure set up keeps what needs no sign-in reachable."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.rigs.pages import text_of

PAGE = text_of(Path("docs/dashboard.md"))
ROUTES = re.findall(r'@app\.route\(\s*"([^"]+)"', text_of(Path("function_app.py")))


def test_requests_without_a_sign_in_are_let_through_to_the_app() -> None:
    [written] = re.findall(r"<<JSON\n(.*?)^JSON$", PAGE, re.DOTALL | re.MULTILINE)
    properties = json.loads(written)["properties"]
    assert properties["platform"] == {"enabled": True}
    assert properties["globalValidation"] == {
        "requireAuthentication": False,
        "unauthenticatedClientAction": "AllowAnonymous",
    }
    registration = properties["identityProviders"]["azureActiveDirectory"]["registration"]
    assert f"name: '{registration['clientSecretSettingName']}', value: password" in PAGE


@pytest.mark.parametrize("route", ROUTES)
def test_where_a_sign_in_is_demanded_all_but_the_dashboard_is_named_as_reachable_without_one(route: str) -> None:
    [written] = re.findall(r'`"excludedPaths": (\[.*?\])`', PAGE, re.DOTALL)
    excluded = json.loads(written)
    path = f"/api/{re.sub(r'{.*', 'name', route)}"
    assert any(fnmatch(path, pattern) for pattern in excluded) is not route.startswith("dashboard")
    assert "/runtime/webhooks/*" in excluded
