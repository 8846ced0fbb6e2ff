"""The HTTP Server API's structures as we fill and read them, against a library that a C compiler made of their text."""

import ctypes
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.records import IIS_APPLICATION, SslRecord, SslSettings
from instance_agent.windows.http_sys import HttpApi
from tests.rigs.programs import needs, path_of

pytestmark = needs("gcc")

SOURCE = Path(__file__).parents[3] / "fakes" / "iis" / "httpapi.c"
SETTINGS = SslSettings(
    check_mode=0x10002,
    freshness_s=60,
    retrieval_timeout_ms=7000,
    ctl_identifier="Länder",
    ctl_store="ClientAuthIssuer",
    flags=3,
)
NAMED = SslRecord(
    host="shop.example.com", port=443, thumbprint="AB" * 20, application=IIS_APPLICATION, store="My", settings=SETTINGS
)
ANY4 = SslRecord(ip="0.0.0.0", port=443, thumbprint="01" * 20, application=IIS_APPLICATION, store="WebHosting")  # noqa: S104
ANY6 = SslRecord(ip="::", port=443, thumbprint="02" * 20, application=IIS_APPLICATION, store="My")
ONE6 = SslRecord(ip="fe80::1", port=8443, thumbprint="03" * 20, application=IIS_APPLICATION, store="My")
CENTRAL = SslRecord(port=443, application=IIS_APPLICATION)
LETTERS = SslRecord(host="bücher.example", port=443, thumbprint="04" * 20, application=IIS_APPLICATION, store="My")
EVERY = (NAMED, ANY4, ANY6, ONE6, CENTRAL, LETTERS)


@pytest.fixture
def library(tmp_path: Path) -> Any:
    compiler, made = path_of("gcc"), tmp_path / "httpapi.so"
    assert compiler is not None
    command = [compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(made), str(SOURCE)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(made))


def old_windows(library: Any) -> SimpleNamespace:
    """Without HttpUpdateServiceConfiguration."""
    names = ("Initialize", "Terminate", "QueryServiceConfiguration", "SetServiceConfiguration")
    functions = {f"Http{name}": getattr(library, f"Http{name}") for name in (*names, "DeleteServiceConfiguration")}
    return SimpleNamespace(**functions)


@pytest.fixture(params=["new", "old"])
def api(request: pytest.FixtureRequest, library: Any) -> HttpApi:
    api = HttpApi(old_windows(library))
    for record in EVERY:
        api.put(record)
    return api if request.param == "old" else HttpApi(library)


def test_every_kind_of_record_is_read_as_it_was_written(api: HttpApi) -> None:
    assert set(api.records()) == set(EVERY)


@pytest.mark.parametrize("record", EVERY, ids=lambda record: record.endpoint)
def test_a_record_is_found_by_its_endpoint(api: HttpApi, record: SslRecord) -> None:
    found = api.records([record.endpoint])
    assert record in found
    assert {it.endpoint for it in found} == {record.endpoint}


def test_what_is_not_there_is_not_found(api: HttpApi) -> None:
    assert api.records(["other.example.com:443", "10.0.0.1:443", "central:444", "*:80"]) == []


def test_a_record_is_written_over_the_one_that_is_there(api: HttpApi) -> None:
    for record in EVERY:
        api.put(replace(record, settings=replace(SETTINGS, flags=2)))
    assert {record.settings.flags for record in api.records()} == {2}


def test_a_deleted_record_is_gone(api: HttpApi) -> None:
    api.delete(NAMED)
    assert set(api.records()) == set(EVERY) - {NAMED}
    with pytest.raises(GatewayError, match=r"shop\.example\.com:443") as caught:
        api.delete(NAMED)
    assert caught.value.code == 0x80070002


def test_a_record_too_long_for_the_first_buffer_is_read(api: HttpApi) -> None:
    long = replace(NAMED, settings=replace(SETTINGS, ctl_identifier="x" * 290, ctl_store="y" * 290))
    api.put(long)
    assert long in api.records()


def test_an_old_windows_that_refuses_the_new_record_keeps_the_old_one(library: Any) -> None:
    api = HttpApi(old_windows(library))
    api.put(NAMED)
    ctypes.c_int.in_dll(library, "refuse_set").value = 1
    with pytest.raises(GatewayError) as caught:
        api.put(replace(NAMED, thumbprint="FF" * 20))
    assert caught.value.code == 0x80070520
    assert api.records() == [NAMED]


def shown(change: Callable[[SslSettings], SslSettings]) -> list[str]:
    return change(SslSettings()).arguments()


def test_settings_are_named_as_netsh_names_them() -> None:
    assert shown(lambda plain: plain) == []
    assert shown(lambda plain: replace(plain, flags=3)) == ["dsmapperusage=enable", "clientcertnegotiation=enable"]
    arguments = NAMED.command.removeprefix("netsh http update sslcert ").split()
    assert arguments == [
        "hostnameport=shop.example.com:443",
        f"certhash={'AB' * 20}",
        f"appid={IIS_APPLICATION}",
        "certstorename=My",
        "verifyrevocationwithcachedclientcertonly=enable",
        "usagecheck=disable",
        "revocationfreshnesstime=60",
        "urlretrievaltimeout=7000",
        "sslctlidentifier=Länder",
        "sslctlstorename=ClientAuthIssuer",
        "dsmapperusage=enable",
        "clientcertnegotiation=enable",
    ]
