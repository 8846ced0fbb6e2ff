"""The routes of the status API: each documented address reaches its function in whatever order a host tries them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import azure.functions as func
import pytest

from local_azure.functions_host.http import first_match
from local_azure.functions_host.index import Function, functions_of
from local_azure.functions_host.routes import Route, decoded_path
from shared.function.status_api import openapi
from shared.state.records import UploadRecord, UploadStatus
from tests.fakes.edges import fake_cloud
from tests.rigs.some import some

APP = importlib.import_module("function_app")
HTTP = [function for function in functions_of(APP) if function.kind == "httpTrigger"]
ROUTES = [(Route(f"api/{function.trigger['route']}", function.name), function) for function in HTTP]
# The first that matches is taken: what any order would reach is reached where each has its turn to be the first.
ORDERS = [[first, *(other for other in ROUTES if other is not first)] for first in ROUTES]
# Names with slashes, doubled ones too, and with what the API's own addresses are made of.
NAMES = (
    "shop.pfx",
    "a/b.pfx",
    "a//b.pfx",
    "a%2Fb.pfx",
    "redeploy/shop.pfx",
    "a/redeploy/shop.pfx",
    "certificates/shop.pfx",
    "keyvault://vault/redeploy",
    "größe 1%/ünï#?.pfx",
    "instances.pfx",
)


def reached(method: str, path: str) -> tuple[Function, Mapping[str, str]]:
    """The function that a request reaches, and the parameters in its path, which no order may change."""
    found = [some(first_match(order, method, decoded_path(path))) for order in ORDERS]
    assert all(each == found[0] for each in found), (method, path)
    return found[0]


async def answer(method: str, path: str) -> dict[str, Any]:
    function, parameters = reached(method, path)
    request = func.HttpRequest(method, path, body=b"", route_params=parameters)
    document: dict[str, Any] = json.loads((await function.call(request)).get_body())
    return document


@pytest.fixture
async def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the names is a rejected upload's."""
    cloud = fake_cloud()
    for name in NAMES:
        await cloud.state.uploads.write(name, UploadRecord(name=name, revision=1, status=UploadStatus.REJECTED), None)
    monkeypatch.setattr(APP, "cloud", lambda: cloud)


def test_every_documented_address_is_reached_in_every_order() -> None:
    for path, operations in openapi()["paths"].items():
        for method in operations:
            reached(method.upper(), f"/api{path.replace('{name}', 'shop.pfx')}")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", ["", "/"])
async def test_a_name_is_answered_for_in_every_order(name: str, end: str) -> None:
    shown = await answer("GET", f"/api/certificates/{quote(name)}{end}")
    assert (shown["name"], shown["status"]) == (name, "rejected")
    refused = await answer("POST", f"/api/certificates/{quote(name)}/redeploy{end}")
    assert refused["error"].startswith(f"upload {name} is rejected")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "a/b.pfx"])
async def test_a_names_slashes_may_be_written_as_percent_2f(name: str) -> None:
    assert (await answer("GET", f"/api/certificates/{quote(name, safe='')}"))["name"] == name
    refused = await answer("POST", f"/api/certificates/{quote(name, safe='')}/redeploy")
    assert refused["error"].startswith(f"upload {name} is rejected")


@pytest.mark.usefixtures("known")
async def test_a_name_that_has_percent_2f_itself_is_meant_first() -> None:
    """The host hands both over alike (ASP.NET Core leaves %2F, and makes %252F into it)."""
    assert (await answer("GET", "/api/certificates/a%2Fb.pfx"))["name"] == "a%2Fb.pfx"


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("path", ["/api/certificates", "/api/certificates/", "/API/Certificates"])
async def test_the_list_is_answered_without_a_name(path: str) -> None:
    assert {upload["name"] for upload in (await answer("GET", path))["uploads"]} == set(NAMES)
    assert (await answer("POST", path))["error"] == "post to /api/certificates/{name}/redeploy"


def test_no_two_routes_of_the_app_take_one_request() -> None:
    """The host refuses two functions with one route and a method in common, and takes one at a time otherwise."""
    taken: list[tuple[str, str]] = []
    for _, function in ROUTES:
        taken += [(str(method), str(function.trigger["route"])) for method in function.trigger["methods"]]
    assert len(taken) == len(set(taken))
    for method, template in taken:
        path = f"/api/{template.replace('{*name}', 'a')}"
        assert sum(first_match([route], method, path) is not None for route in ROUTES) == 1, (method, path)


async def test_the_app_answers_where_a_setting_keeps_it_from_being_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTCAST_STORAGE", "UseDevelopmentStorage=true")
    monkeypatch.delenv("CERTCAST_KEY_ENCRYPTION_KEY", raising=False)
    asked = func.HttpRequest("GET", "/", body=b"")
    anybody = await APP.healthz._function.get_user_function()(asked)
    assert (anybody.status_code, json.loads(anybody.get_body())) == (
        503,
        {"status": "failing", "parts": {"settings": "failing"}},
    )
    with_a_key = await APP.diagnose._function.get_user_function()(asked)
    assert "CERTCAST_KEY_ENCRYPTION_KEY is not set" in json.loads(with_a_key.get_body())["problems"][0]["detail"]
