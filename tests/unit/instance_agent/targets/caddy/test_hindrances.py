"""What in Caddy's configuration keeps it from asking the agent."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instance_agent.targets.caddy.hindrances import hindrances

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["apps", "http", "servers", "tls", "certificates", "routes", "match", "host", "listen"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=30,
)


def server(*hosts: str, **more: Any) -> dict[str, Any]:
    return {"listen": [":443"], "routes": [{"match": [{"host": [host]}]} for host in hosts], **more}


def on(**apps: Any) -> dict[str, Any]:
    return {"apps": apps}


def http(*servers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return on(http={"servers": {f"srv{number}": each for number, each in enumerate(servers)}, **more})


def test_named_sites_of_a_server_with_automatic_https_are_named() -> None:
    [found] = hindrances(http(server("a.example", "b.example", "a.example"), server()))
    assert "for a.example, b.example (server srv0)" in found
    assert "auto_https off" in found


@pytest.mark.parametrize("key", ["disable", "disable_certificates"])
def test_with_automatic_https_off_nothing_is_obtained(key: str) -> None:
    assert hindrances(http(server("a.example", automatic_https={key: True}))) == ()


@pytest.mark.parametrize("key", ["skip", "skip_certificates"])
def test_sites_that_are_left_out_by_name_are(key: str) -> None:
    [found] = hindrances(http(server("a.example", "b.example", automatic_https={key: ["a.example"]})))
    assert "for b.example (" in found


def test_redirects_that_are_off_change_nothing() -> None:
    assert hindrances(http(server("a.example", automatic_https={"disable_redirects": True})))


def test_a_server_for_plain_http_alone_obtains_nothing() -> None:
    assert hindrances(http(server("a.example", listen=[":80", "127.0.0.1:80"]))) == ()
    assert hindrances(http(server("a.example", listen=[":8080"]), http_port=8080)) == ()
    assert hindrances(http(server("a.example", listen=[":80", ":443"])))


@pytest.mark.parametrize("loader", ["load_files", "load_folders", "load_pem", "load_storage"])
def test_certificates_that_the_configuration_loads_are_told_of_and_not_shown(loader: str) -> None:
    [found] = hindrances(on(tls={"certificates": {loader: [{"key": "SECRET"}]}}))
    assert f"(apps.tls.certificates: {loader})" in found
    assert "SECRET" not in found
    assert hindrances(on(tls={"certificates": {loader: []}})) == ()


def test_names_that_are_to_be_automated_are_named() -> None:
    [found] = hindrances(on(tls={"certificates": {"automate": ["a.example"]}}))
    assert "for a.example (apps.tls.certificates.automate)" in found


def test_no_configuration_is_no_hindrance() -> None:
    assert hindrances(None) == ()
    assert hindrances(on(tls={"automation": {"policies": [{"get_certificate": [{"via": "http"}]}]}})) == ()


@given(ANY_JSON)
def test_whatever_a_configuration_is_nothing_is_raised(configuration: object) -> None:
    assert all(each.isprintable() for each in hindrances(configuration))
