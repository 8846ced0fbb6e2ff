"""The status API as its users have it: over HTTP, from the local cloud's Functions host, with its keys."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from shared.function.status_api import openapi
from tests.rigs.certificates import authority
from tests.rigs.command_line import Ran, certcast, clean_environment
from tests.rigs.witness import PASSWORD, Witness, eventually, witnessed

AGENTS = 2
ODD_NAME = "kunden/größe 1%/ünï#?.pfx"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[Witness]:
    async with witnessed(PlatformSettings(agents=AGENTS, ports=FREE_PORTS)) as witness:
        yield witness


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(cloud: Witness) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession() as session:
        yield Api(cloud, session)


class Api:
    """A client that writes paths exactly as a test has them."""

    def __init__(self, cloud: Witness, session: aiohttp.ClientSession) -> None:
        self.base = f"{cloud.platform.functions_url}/api"
        self.key = cloud.platform.keys.function
        self._session = session

    async def call(self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, Any]:
        headers = {"x-functions-key": self.key} if headers is None else headers
        async with self._session.request(method, URL(f"{self.base}/{path}", encoded=True), headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def send(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answered:
        headers = {"x-functions-key": self.key} if headers is None else headers
        async with self._session.request(
            method, URL(f"{self.base}/{path}", encoded=True), headers=headers, data=body, allow_redirects=False
        ) as answer:
            return Answered(status=answer.status, headers=answer.headers, body=await answer.read())


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def test_an_upload_is_listed_as_the_status_command_shows_it(cloud: Witness, api: Api) -> None:
    issued = authority().issue("listed.test")
    await cloud.goes_live("listed.pfx", issued, live=AGENTS)
    status, document = await api.call("certificates")
    assert status == 200
    [entry] = [each for each in document["uploads"] if each["name"] == "listed.pfx"]
    assert (entry["status"], entry["live"], entry["expected"]) == ("live", AGENTS, AGENTS)
    assert entry["fingerprint_sha256"] == issued.fingerprint
    assert entry["hosts"] == ["listed.test"]
    assert entry["seconds_to_live"] > 0
    assert PASSWORD not in json.dumps(document)


async def test_one_upload_is_shown_with_every_instances_report(cloud: Witness, api: Api) -> None:
    issued = authority().issue("reports.test")
    await cloud.goes_live("reports.pfx", issued, live=AGENTS)
    status, document = await api.call("certificates/reports.pfx")
    assert status == 200
    assert {report["fingerprint_sha256"] for report in document["installations"]} == {issued.fingerprint}
    assert len({report["instance"] for report in document["installations"]}) == AGENTS


async def test_a_rejected_upload_is_shown_with_its_reasons(cloud: Witness, api: Api) -> None:
    await cloud.upload("bad.pfx", b"no certificate")
    await cloud.becomes("bad.pfx", "rejected")
    status, document = await api.call("certificates/bad.pfx")
    assert (status, document["status"]) == (200, "rejected")
    assert [violation["code"] for violation in document["violations"]] == ["unreadable_bundle"]


@pytest.mark.parametrize("safe", ["/", ""], ids=["slashes as they are", "slashes written as %2F"])
async def test_a_name_may_hold_slashes_spaces_and_any_other_character(cloud: Witness, api: Api, safe: str) -> None:
    await cloud.goes_live(ODD_NAME, authority().issue("odd.test"), live=AGENTS)
    status, document = await api.call(f"certificates/{quote(ODD_NAME, safe=safe)}")
    assert (status, document["name"]) == (200, ODD_NAME)
    status, document = await api.call(f"certificates/{quote(ODD_NAME, safe=safe)}/redeploy", method="POST")
    assert (status, document["name"]) == (202, ODD_NAME)


async def test_every_instance_is_listed(cloud: Witness, api: Api) -> None:
    status, document = await api.call("instances")
    assert status == 200
    assert [(each["ready"], each["alive"], each["target"]) for each in document["instances"]] == [
        (True, True, "embedded")
    ] * len(cloud.platform.agents)


async def test_redeploying_installs_once_more_everywhere_and_ends_live_again(cloud: Witness, api: Api) -> None:
    issued = authority().issue("redeployed.test")
    before = await cloud.goes_live("redeployed.pfx", issued, live=AGENTS)
    row = await cloud.account.state.bindings.get(before.claims[0])
    installs = len(cloud.installs("redeployed.test"))
    status, document = await api.call("certificates/redeployed.pfx/redeploy", method="POST")
    assert (status, document) == (202, {"name": "redeployed.pfx", "bindings": ["redeployed.test:443"]})

    async def installed_again() -> bool:
        return len(cloud.installs("redeployed.test")) == installs + AGENTS

    await eventually(installed_again, "every agent to install it once more")
    await cloud.becomes("redeployed.pfx", "live", live=AGENTS)
    again = await cloud.account.state.bindings.get(before.claims[0])
    assert row is not None
    assert again is not None
    assert again.generation > row.generation
    await cloud.serves("redeployed.test", issued.fingerprint)


async def test_what_serves_no_host_cannot_be_redeployed(cloud: Witness, api: Api) -> None:
    await cloud.upload("useless.pfx", b"no certificate")
    await cloud.becomes("useless.pfx", "rejected")
    status, document = await api.call("certificates/useless.pfx/redeploy", method="POST")
    assert status == 409
    assert "rejected" in document["error"]


async def test_a_removed_upload_is_shown_when_asked_for_and_not_redeployed(cloud: Witness, api: Api) -> None:
    await cloud.goes_live("left.pfx", authority().issue("left.test"), live=AGENTS)
    assert await cloud.account.uploads.delete("left.pfx")
    await cloud.becomes("left.pfx", "removed", live=0)
    names = {}
    for query in ("", "?removed=false", "?removed=true"):
        status, document = await api.call(f"certificates{query}")
        assert status == 200
        names[query] = {each["name"] for each in document["uploads"]}
    assert names[""] == names["?removed=false"] == names["?removed=true"] - {"left.pfx"}
    assert "left.pfx" in names["?removed=true"]
    assert (await api.call("certificates/left.pfx/redeploy", method="POST"))[0] == 404


async def test_what_ends_in_minutes_gives_way_and_is_told_what_is_served_in_its_place_as_long_as_it_is(
    cloud: Witness, api: Api
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    ending = authority().issue("ends.test", not_before=now - timedelta(minutes=1), not_after=now + timedelta(minutes=5))
    await cloud.goes_live("ending.pfx", ending, live=AGENTS)
    for name, days in (("lasting.pfx", 9), ("newer.pfx", 2)):
        lasting = authority().issue("ends.test", not_before=now - timedelta(days=days))
        await cloud.goes_live(name, lasting, live=AGENTS)
        await cloud.serves("ends.test", lasting.fingerprint)
        await cloud.becomes("ending.pfx", "superseded")
        told = (await api.call("certificates/ending.pfx"))[1]
        assert told["reason"] == f"ends on {now + timedelta(minutes=5):%Y-%m-%d %H:%M} UTC; served in its place: {name}"
    listed = {each["name"]: each for each in (await api.call("certificates"))[1]["uploads"]}
    assert listed["lasting.pfx"]["reason"] == "superseded by newer.pfx"
    assert [violation["code"] for violation in listed["lasting.pfx"]["violations"]] == ["older_than_live"]
    assert await cloud.account.uploads.delete("newer.pfx")
    await cloud.becomes("newer.pfx", "removed", live=0)
    assert (await api.call("certificates/ending.pfx"))[1]["reason"].endswith(": lasting.pfx")


@pytest.mark.parametrize("query", ["removed=yes", "removed=%20", "removed=TRUE", "removed=true&removed=true"])
async def test_a_query_that_is_neither_true_nor_false_is_refused_in_words(api: Api, query: str) -> None:
    assert await api.call(f"certificates?{query}") == (400, {"error": "removed must be true or false"})


@pytest.mark.parametrize("path", ["certificates/?removed=&limit=&after=", "instances/?limit&after"])
async def test_a_slash_at_the_end_changes_nothing_and_what_is_empty_in_a_query_was_not_asked_for(
    api: Api, path: str
) -> None:
    answers = [await api.call(each) for each in (path, path.partition("/")[0])]
    assert all(document.pop("as_of") for _, document in answers)
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "certificates/unknown.pfx"),
        ("GET", "certificates/" + "x" * 1025),
        ("GET", "certificates/a/b%3A%2F%2Fc"),
        ("GET", "certificates/" + quote("ü" * 900)),
        ("POST", "certificates/unknown.pfx/redeploy"),
        ("POST", "certificates/unknown.pfx/redeploynow"),
        ("POST", "certificates/unknown.pfx"),
        ("POST", "certificates/redeploy"),
    ],
)
async def test_an_unknown_upload_is_answered_with_404_and_a_sentence(api: Api, method: str, path: str) -> None:
    status, document = await api.call(path, method=method)
    assert status == 404
    assert document["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "certificates"),
        ("GET", "certificates/listed.pfx"),
        ("GET", "instances"),
        ("POST", "certificates/listed.pfx/redeploy"),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"x-functions-key": "guessed"}], ids=["no key", "a wrong key"])
async def test_without_the_function_key_nothing_is_told(
    api: Api, method: str, path: str, headers: dict[str, str]
) -> None:
    assert await api.call(path, method=method, headers=headers) == (401, None)


async def test_the_key_may_stand_in_the_query(api: Api) -> None:
    status, _ = await api.call(f"instances?code={api.key}", headers={})
    assert status == 200


async def test_anybody_may_ask_whether_it_works_and_how_it_is_used(api: Api) -> None:
    assert await api.call("healthz", headers={}) == (200, {"status": "ok"})
    assert await api.call("openapi.json", headers={}) == (200, openapi())


DASHBOARD_FORM = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}


class TestTheDashboardsAddresses:
    """Pages themselves are read in a browser, in test_dashboard.py."""

    @pytest.mark.parametrize("path", ["", "/", "/certificate?name=listed.pfx", "/history", "/assets/dashboard.css"])
    async def test_are_answered_with_the_key_alone_and_without_a_word_to_other_sites(
        self, cloud: Witness, api: Api, path: str
    ) -> None:
        await cloud.goes_live("listed.pfx", authority().issue("listed.test"), live=AGENTS)
        assert (await api.send("GET", f"dashboard{path}", headers={})).status == 401
        for method in ("GET", "HEAD"):
            answer = await api.send(method, f"dashboard{path}")
            assert answer.status == 200
            assert bool(answer.body) is (method == "GET")
            assert answer.headers["Referrer-Policy"] == "same-origin"
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
            assert answer.headers["ETag"]

    async def test_say_that_nothing_changed(self, api: Api) -> None:
        for _ in range(10):  # a page that tells times is sent again every quarter of a minute
            tag = (await api.send("GET", "dashboard")).headers["ETag"]
            answer = await api.send("GET", "dashboard", headers={"x-functions-key": api.key, "If-None-Match": tag})
            if answer.status == 304:
                break
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["Last-Modified"].endswith(" GMT"), "the page shows it as the time of what it says"

    async def test_are_of_the_platforms_own_address(self, cloud: Witness, api: Api) -> None:
        assert cloud.platform.dashboard_url == f"{api.base}/dashboard?code={api.key}"
        page = await api.send("GET", f"dashboard?code={api.key}", headers={})
        assert f"/api/dashboard/assets/dashboard.css?code={api.key}".encode() in page.body

    @pytest.mark.parametrize(("method", "status"), [("PUT", 404), ("DELETE", 404), ("POST", 405)])
    async def test_take_no_other_method(self, api: Api, method: str, status: int) -> None:
        assert (await api.send(method, "dashboard", headers={"x-functions-key": api.key})).status == status

    async def test_that_are_none_are_a_page_for_people(self, api: Api) -> None:
        answer = await api.send("GET", "dashboard/nothing/here")
        assert (answer.status, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")

    async def test_have_an_upload_installed_once_more_for_their_own_form_alone(self, cloud: Witness, api: Api) -> None:
        before = await cloud.goes_live("form.pfx", authority().issue("form.test"), live=AGENTS)
        row = await cloud.account.state.bindings.get(before.claims[0])
        for headers, status in (({"Sec-Fetch-Site": "cross-site"}, 403), ({}, 303)):
            sent = {**DASHBOARD_FORM, **headers}
            address = f"dashboard/redeploy?code={api.key}"
            assert (await api.send("POST", address, headers=sent, body=b"name=form.pfx")).status == status
        again = await cloud.account.state.bindings.get(before.claims[0])
        assert row is not None
        assert again is not None
        assert again.generation > row.generation


async def test_the_running_api_is_what_its_description_says(api: Api, tmp_path: Path) -> None:
    settings = tmp_path / "schemathesis.toml"
    settings.write_text('headers = { "x-functions-key" = "${CERTCAST_FUNCTION_KEY}" }\n')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run", f"{api.base}/openapi.json"),
        *("--url", api.base, "--checks", "all", "--mode", "all", "--phases", "examples,coverage,fuzzing"),
        # The Functions host, here as in the cloud, answers 404 where a route exists but not with that method.
        *("--exclude-checks", "unsupported_method"),
        *("--max-examples", "15", "--seed", "1", "--generation-database", "none", "--no-color", "--warnings", "off"),
        cwd=tmp_path,
        env={"CERTCAST_FUNCTION_KEY": api.key, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode(errors="replace")
    assert process.returncode == 0, output[-8000:]
    assert api.key not in output


async def certcast_status(api: Api, *arguments: str, key: str) -> Ran:
    """Run the command as a person does, with nothing but the address and the key."""
    return await certcast("status", "--url", api.base, *arguments, env=clean_environment(CERTCAST_FUNCTION_KEY=key))


async def test_certcast_status_can_ask_the_api_instead_of_the_account(cloud: Witness, api: Api) -> None:
    await cloud.goes_live(ODD_NAME, authority().issue("odd.test"), live=AGENTS)
    ran = await certcast_status(api, "--json", key=api.key)
    assert (ran.code, len(ran.document["instances"])) == (0, AGENTS)
    assert ODD_NAME in {upload["name"] for upload in ran.document["uploads"]}
    ran = await certcast_status(api, ODD_NAME, "--json", key=api.key)
    [upload] = ran.document["uploads"]
    assert (ran.code, upload["name"], len(upload["installations"])) == (0, ODD_NAME, AGENTS)
    ran = await certcast_status(api, ODD_NAME, key=api.key)
    assert ran.code == 0
    assert "odd.test" in ran.out
    ran = await certcast_status(api, "--host", "odd.test", "--instance", "agent-0", "--json-lines", key=api.key)
    summary, *entries = map(json.loads, ran.out.splitlines())
    assert (summary["kind"], summary["total"], summary["running"]) == ("summary", 1, AGENTS)
    assert [entry.get("name", entry.get("id")) for entry in entries][:2] == [ODD_NAME, "agent-0"]


async def test_certcast_history_shows_what_became_of_uploads_by_the_account_and_by_the_api(
    cloud: Witness, api: Api
) -> None:
    async def becomes(name: str, *expected: str) -> None:
        async def seen() -> bool:
            status, document = await api.call(f"history?name={quote(name, safe='')}")
            assert status == 200, document
            return [entry["kind"] for entry in document["entries"]] == [*expected]

        await eventually(seen, f"the history of {name} to be {expected}")

    first, second = (authority().issue("told.test") for _ in range(2))
    await cloud.upload("told/bad.pfx", b"no certificate")
    await cloud.upload("told.pfx", first.pfx(PASSWORD))
    await becomes("told.pfx", "live", "accepted")
    await cloud.upload("told.pfx", second.pfx(PASSWORD))
    await becomes("told.pfx", "live", "renewed", "live", "accepted")
    await cloud.account.uploads.delete("told.pfx")
    await becomes("told.pfx", "removed", "live", "renewed", "live", "accepted")
    await becomes("told/bad.pfx", "rejected")

    by_account = ((), clean_environment(CERTCAST_STORAGE=cloud.platform.connection_string))
    by_api = (("--url", api.base), clean_environment(CERTCAST_FUNCTION_KEY=api.key))
    documents = []
    for way, env in (by_account, by_api):
        ran = await certcast("history", "--since", "1h", "--host", "told.test", *way, "--json", env=env)
        assert ran.code == 0, ran.err
        assert PASSWORD not in ran.out
        documents.append({key: value for key, value in ran.document.items() if key != "as_of"})
        ran = await certcast("history", "--name", "told.pfx", "--limit", "1", *way, env=env)
        assert ran.code == 0, ran.err
        assert " removed " in ran.out
        assert "told.test:443" in ran.out
        assert second.fingerprint[:12] in ran.out
        assert "There are more: --limit 1 shows the newest of them." in ran.out
    assert documents[0] == documents[1]
    assert documents[0]["complete"]
    kinds = [entry["kind"] for entry in documents[0]["entries"]]
    assert kinds == ["removed", "live", "renewed", "live", "accepted"]


async def test_certcast_redeploys_by_the_queue_and_by_the_api(cloud: Witness, api: Api) -> None:
    await cloud.goes_live("again.pfx", authority().issue("again.test"), live=AGENTS)
    installs = len(cloud.installs("again.test"))
    by_api = ("redeploy", "again.pfx", "--url", api.base)
    by_queue = ("redeploy", "again.pfx", "--json")
    ran = await certcast(*by_api, env=clean_environment(CERTCAST_FUNCTION_KEY=api.key))
    assert ran.code == 0, ran.err
    assert f"live: again.pfx on {AGENTS}/{AGENTS} in " in ran.out
    assert len(cloud.installs("again.test")) == installs + AGENTS
    ran = await certcast(*by_queue, env=clean_environment(CERTCAST_STORAGE=cloud.platform.connection_string))
    assert ran.code == 0, ran.err
    assert ran.document.items() >= {"status": "live", "live": AGENTS, "redeployed": True}.items()
    assert len(cloud.installs("again.test")) == installs + 2 * AGENTS
    ran = await certcast("redeploy", "none.pfx", *by_api[2:], env=clean_environment(CERTCAST_FUNCTION_KEY=api.key))
    assert (ran.code, "there is no upload named none.pfx" in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "key", "code", "said"),
    [
        (["unknown.pfx"], None, 1, "there is no upload named unknown.pfx"),
        ([], "guessed", 1, "refuses the key in CERTCAST_FUNCTION_KEY"),
        ([], "", 2, "CERTCAST_FUNCTION_KEY is not set"),
        (["--account", "x"], None, 2, "--url asks the status API"),
    ],
)
async def test_certcast_status_says_what_is_wrong_with_the_api(
    api: Api, arguments: list[str], key: str | None, code: int, said: str
) -> None:
    ran = await certcast_status(api, *arguments, key=api.key if key is None else key)
    assert said in ran.err
    assert (ran.code, ran.out) == (code, "")
    assert "Traceback" not in ran.err
