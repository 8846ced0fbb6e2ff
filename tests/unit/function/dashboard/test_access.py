"""Who may see the dashboard, and what may change something through it."""

import base64
import json
from typing import Any

import pytest

from shared.config import Settings
from shared.errors import ConfigurationError
from shared.function.dashboard.access import SECURITY_HEADERS, Access, is_same_origin
from shared.function.dashboard.exchange import Request
from shared.function.dashboard.links import Links

SIGNED_IN = base64.b64encode(
    json.dumps({"auth_typ": "aad", "claims": [{"typ": "name", "val": "Ada"}]}).encode()
).decode()
ON = {"CERTCAST_DASHBOARD_SIGN_IN": "app-service", "WEBSITE_AUTH_ENABLED": "True"}


def asked(
    url: str = "https://app.test/api/dashboard",
    method: str = "GET",
    query: dict[str, str] | None = None,
    **headers: str,
) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    rest = url.partition("/dashboard")[2]
    return Request.of(method, url, rest=rest, query=query or {}, headers=named)


class TestSigningIn:
    def test_is_not_asked_for_where_the_host_asked_for_a_key(self) -> None:
        assert Access.from_env({"WEBSITE_AUTH_ENABLED": "true"}).refusal(asked()) is None

    def test_lets_in_those_whom_app_service_says_signed_in(self) -> None:
        assert Access.from_env(ON).refusal(asked(X_MS_CLIENT_PRINCIPAL=SIGNED_IN)) is None

    @pytest.mark.parametrize("enabled", [None, "", "false", "False", "0", "no"])
    def test_refuses_whatever_headers_say_where_the_platform_does_not_take_forged_ones_away(
        self, enabled: str | None
    ) -> None:
        env = {"CERTCAST_DASHBOARD_SIGN_IN": "app-service"} | (
            {} if enabled is None else {"WEBSITE_AUTH_ENABLED": enabled}
        )
        refusal = Access.from_env(env).refusal(asked(X_MS_CLIENT_PRINCIPAL=SIGNED_IN, X_MS_CLIENT_PRINCIPAL_ID="1"))
        assert refusal is not None
        assert (refusal.status, refusal.leads_to) == (403, "")
        assert "this is off for this app: turn it on" in refusal.sentence

    @pytest.mark.parametrize(
        "principal",
        [
            "",
            "no base64",
            "bm8=",
            base64.b64encode(b"[" * 9_000).decode(),
            base64.b64encode(b'{"claims": []}').decode(),
            base64.b64encode(b'[{"claims": [1]}]').decode(),
            base64.b64encode(b'{"claims": ["' + b"x" * 70_000 + b'"]}').decode(),
        ],
        ids=["none", "no base64", "no JSON", "deep JSON", "no claims", "a list", "a large one"],
    )
    def test_sends_others_to_sign_in_and_back(self, principal: str) -> None:
        page = asked(
            "https://app.test/api/dashboard/certificate",
            query={"name": "a b&c.pfx", "code": "key"},
            x_ms_client_principal=principal,
        )
        refusal = Access.from_env(ON).refusal(page)
        assert refusal is not None
        assert (refusal.status, refusal.leads_to) == (
            401,
            "/.auth/login/aad?post_login_redirect_uri=%2Fapi%2Fdashboard%2Fcertificate%3Fname%3Da%2Bb%2526c.pfx%26signed_in%3Dtrue",
        )

    @pytest.mark.parametrize(
        "page",
        [asked(query={"signed_in": "true"}), asked(method="POST"), asked(method="HEAD")],
        ids=["has been there", "a form", "HEAD"],
    )
    def test_sends_nobody_in_a_circle(self, page: Request) -> None:
        refusal = Access.from_env(ON).refusal(page)
        assert refusal is not None
        assert (refusal.status, refusal.leads_to) == (401, "")

    def test_has_no_key_carried_on_and_names_who_asks(self) -> None:
        page = asked(query={"code": "key"}, x_ms_client_principal_name="ada@example.com\x1b[2J")
        assert (Access.from_env(ON).key(page), Access().key(page)) == ("", "key")
        assert Access.from_env(ON).who(page).startswith("ada@example.com")
        assert "\x1b" not in Access.from_env(ON).who(page)
        assert Access().who(page) == ""

    def test_another_way_is_refused_by_the_settings_and_leaves_the_key_asked_for(self) -> None:
        env = {"CERTCAST_DASHBOARD_SIGN_IN": "off", "WEBSITE_AUTH_ENABLED": "true"}
        assert not Access.from_env(env).signs_in
        with pytest.raises(ConfigurationError, match="CERTCAST_DASHBOARD_SIGN_IN must be app-service"):
            Settings.from_env(
                {**env, "CERTCAST_KEY_ENCRYPTION_KEY": "file:key", "CERTCAST_STORAGE": "UseDevelopmentStorage=true"}
            )


class TestTheOrigin:
    @pytest.mark.parametrize(
        ("headers", "same"),
        [
            ({"Sec_Fetch_Site": "same-origin"}, True),
            ({"Sec_Fetch_Site": "same-origin", "Origin": "null"}, True),
            ({"Sec_Fetch_Site": "same-site", "Origin": "https://app.test"}, False),
            ({"Sec_Fetch_Site": "cross-site"}, False),
            ({"Sec_Fetch_Site": "none"}, False),
            ({"Sec_Fetch_Site": ""}, False),
            ({"Origin": "https://app.test"}, True),
            ({"Origin": "HTTPS://APP.test"}, True),
            ({"Origin": "https://evil.test"}, False),
            ({"Origin": "https://app.test.evil.test"}, False),
            ({"Origin": "https://app.test:8443"}, False),
            ({"Origin": "null"}, False),
            ({}, False),
        ],
    )
    def test_is_the_dashboards_own(self, headers: dict[str, str], same: bool) -> None:  # noqa: FBT001
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        page = Request.of("POST", "/api/dashboard", rest="", query={}, headers={"Host": "app.test", **named})
        assert is_same_origin(page) is same

    def test_without_a_host_is_anothers(self) -> None:
        assert not is_same_origin(asked(method="POST", Origin=""))


class TestARequest:
    @pytest.mark.parametrize(
        ("url", "base"),
        [
            ("https://app.test/api/dashboard?code=x", "/api/dashboard"),
            ("https://app.test/api/dashboard/", "/api/dashboard"),
            ("https://app.test/API/Dashboard/certificate?name=/dashboard", "/API/Dashboard"),
            ("http://127.0.0.1:7071/dashboard/assets/x", "/dashboard"),
            ("https://app.test/front/api/dashboard/dashboard", "/front/api/dashboard"),
            ("https://app.test/api/dashboards", "/api/dashboard"),
        ],
    )
    def test_knows_where_the_dashboard_begins(self, url: str, base: str) -> None:
        assert asked(url).base == base

    @pytest.mark.parametrize(
        ("kind", "body", "form"),
        [
            ("application/x-www-form-urlencoded", b"name=a%2Fb+%C3%BC.pfx", {"name": "a/b ü.pfx"}),
            ("Application/X-WWW-Form-Urlencoded; charset=utf-8", b"name=x", {"name": "x"}),
            ("text/plain", b"name=x", {}),
            ("", b"name=x", {}),
            ("application/x-www-form-urlencoded", b"name=%FF", {}),
            ("application/x-www-form-urlencoded", b"name=\xff", {}),
            ("application/x-www-form-urlencoded", b"name=" + b"x" * 17_000, {}),
            ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(99)), {}),
        ],
    )
    def test_takes_what_a_form_sent_within_bounds(self, kind: str, body: bytes, form: dict[str, str]) -> None:
        found = Request.of("post", "/api/dashboard", rest="", query={}, headers={"Content-Type": kind}, body=body)
        assert (found.method, found.form) == ("POST", form)


class TestLinks:
    def test_carry_the_key_on_and_write_names_so_that_they_come_back_as_they_were(self) -> None:
        links = Links(base="/api/dashboard", code="k/ey=", query={"status": "live", "offset": "100"})
        assert links.fleet() == "/api/dashboard?code=k%2Fey%3D"
        assert (
            links.certificate("a/ü &<b>.pfx")
            == "/api/dashboard/certificate?name=a%2F%C3%BC+%26%3Cb%3E.pfx&code=k%2Fey%3D"
        )
        assert links.here(sort="-expiry", offset=None) == "/api/dashboard?status=live&sort=-expiry&code=k%2Fey%3D"
        assert links.redeploy() == "/api/dashboard/redeploy?code=k%2Fey%3D"
        assert links.carried == {"code": "k/ey="}
        assert "k/ey=" not in repr(links)

    def test_carry_nothing_on_where_people_sign_in(self) -> None:
        links = Links(base="/api/dashboard")
        assert (links.fleet(), links.asset("dashboard.css"), links.carried) == (
            "/api/dashboard",
            "/api/dashboard/assets/dashboard.css",
            {},
        )


def test_nothing_may_run_but_what_the_app_serves() -> None:
    policy: dict[str, Any] = dict(
        part.strip().split(" ", 1) for part in SECURITY_HEADERS["Content-Security-Policy"].split(";")
    )
    assert policy.pop("default-src") == policy.pop("base-uri") == policy.pop("frame-ancestors") == "'none'"
    assert set(policy.values()) == {"'self'"}
    assert SECURITY_HEADERS["Referrer-Policy"] == "same-origin"
