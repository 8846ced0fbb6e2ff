"""What the dashboard answers: pages, assets, redirects and problems, each with the headers that a browser needs."""

import asyncio
import re
from dataclasses import replace

import pytest

from shared.errors import UnavailableError
from shared.function.board import Board
from shared.function.cloud import Cloud
from shared.function.dashboard import serving
from shared.function.dashboard.access import SECURITY_HEADERS, Access
from shared.function.dashboard.exchange import Request, Response
from shared.function.dashboard.reading import MOST_REPORTS_SHOWN, certificate_view
from shared.messages import InstallOutcome
from shared.state.records import InstallationRecord, UploadStatus
from tests.fakes.processes import Failing, StandingStill
from tests.fakes.storage import START
from tests.rigs.scenes import Scene

OWN_FORM = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def cloud(scene: Scene) -> Cloud:
    return patient(scene.cloud)


def patient(cloud: Cloud) -> Cloud:
    """One whose board a look waits for as long as it takes: the machine may have much to do."""

    def passing() -> float:
        return (cloud.now() - START).total_seconds()

    return replace(cloud, board=Board(patience_s=20, passing=passing))


async def ask(
    cloud: Cloud,
    path: str = "",
    query: dict[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    access: Access | None = None,
) -> Response:
    request = Request.of(
        method,
        f"https://app.test/api/dashboard/{path}",
        rest=path,
        query={"code": "k3y", **(query or {})},
        headers={"Host": "app.test", **(headers or {})},
        body=body,
    )
    response = await serving.answer(cloud, request, access or Access())
    assert SECURITY_HEADERS.items() <= response.headers.items()
    assert "Cache-Control" in response.headers
    return response


def text(response: Response) -> str:
    return response.body.decode()


async def served(scene: Scene) -> None:
    await scene.join("web-0", "web-1")
    await scene.accepted("shops/a b.pfx", "a.test")
    await scene.everyone_obeys("web-0", "web-1")


class TestTheFleetPage:
    @pytest.mark.parametrize("path", ["", "/"])
    async def test_shows_uploads_and_instances_with_links_that_carry_the_key(
        self, scene: Scene, cloud: Cloud, path: str
    ) -> None:
        await served(scene)
        response = await ask(cloud, path)
        assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert response.headers["Cache-Control"] == "no-store"
        assert "shops/a b.pfx" in text(response)
        assert "web-1" in text(response)
        assert "/api/dashboard/certificate?name=shops%2Fa+b.pfx&amp;code=k3y" in text(response)

    async def test_that_did_not_change_is_not_sent_again(self, scene: Scene, cloud: Cloud) -> None:
        await served(scene)
        scene.storage.clock.advance(1)
        await scene.beat("web-0", "web-1")
        first = await ask(cloud)
        again = {"If-None-Match": first.headers["ETag"]}
        scene.storage.clock.advance(2)
        await scene.beat("web-0", "web-1")
        response = await ask(cloud, headers=again)
        assert (response.status, response.body) == (304, b"")
        assert response.headers["ETag"] == first.headers["ETag"]
        assert [each.headers["Last-Modified"] for each in (first, response)] == [
            "Sun, 01 Mar 2026 12:00:01 GMT",
            "Sun, 01 Mar 2026 12:00:03 GMT",
        ]
        assert (await ask(cloud, query={"status": "live"}, headers=again)).status == 200
        await scene.accepted("b.pfx", "b.test")
        scene.storage.clock.advance(2)
        assert (await ask(cloud, headers=again)).status == 200

    async def test_that_tells_times_is_sent_again_after_seconds(self, scene: Scene, cloud: Cloud) -> None:
        first = await ask(cloud)
        scene.storage.clock.advance(serving.FRESH_S)
        assert (await ask(cloud, headers={"If-None-Match": first.headers["ETag"]})).status == 200

    @pytest.mark.parametrize(
        ("query", "said"), [({"sort": "<b>"}, "sort must be one of"), ({"limit": "0"}, "limit must be")]
    )
    async def test_says_what_is_wrong_in_a_query(self, cloud: Cloud, query: dict[str, str], said: str) -> None:
        response = await ask(cloud, query=query)
        assert response.status == 400
        assert said in text(response)
        assert "<b>" not in text(response)

    async def test_shows_what_it_knows_while_the_tables_cannot_be_read(self, scene: Scene) -> None:
        failing = Failing({})
        cloud = patient(scene.seen_by(failing))
        await served(scene)
        await ask(cloud)
        failing.errors["uploads query"] = [UnavailableError("reading table uploads: the service answered 503")] * 9
        scene.storage.clock.advance(10)
        response = await ask(cloud)
        assert response.status == 200
        assert "shops/a b.pfx" in text(response)


class TestTheCertificatePage:
    async def test_shows_one_upload_with_its_way(self, scene: Scene, cloud: Cloud) -> None:
        await served(scene)
        response = await ask(cloud, "certificate", {"name": "shops/a b.pfx"})
        assert response.status == 200
        assert "shops/a b.pfx" in text(response)
        again = await ask(
            cloud, "certificate", {"name": "shops/a b.pfx"}, headers={"If-None-Match": response.headers["ETag"]}
        )
        assert (again.status, again.body) == (304, b"")
        scene.storage.clock.advance(1)
        await scene.proves("web-0", "a.test", outcome=InstallOutcome.FAILED)
        again = await ask(
            cloud, "certificate", {"name": "shops/a b.pfx"}, headers={"If-None-Match": response.headers["ETag"]}
        )
        assert again.status == 200

    @pytest.mark.parametrize("name", ["", "unknown.pfx", "<script>alert(1)</script>", "x" * 2_000, "\u202egnp.exe"])
    async def test_of_an_upload_that_is_not_there_says_so(self, cloud: Cloud, name: str) -> None:
        response = await ask(cloud, "certificate", {"name": name})
        assert response.status == 404
        assert "there is no upload named" in text(response)
        assert "<script>a" not in text(response)
        assert "\u202e" not in text(response)

    async def test_is_read_once_for_all_who_ask_at_the_same_time(self, scene: Scene) -> None:
        reads = 0

        async def counted(what: str) -> None:
            nonlocal reads
            reads += what == "installations query"

        await served(scene)
        cloud = patient(scene.seen_by(counted))
        answers = await asyncio.gather(*(ask(cloud, "certificate", {"name": "shops/a b.pfx"}) for _ in range(40)))
        assert {answer.status for answer in answers} == {200}
        assert reads == 1

    async def test_tells_of_its_last_week_and_of_what_waits_in_its_row_where_the_history_cannot_be_read(
        self, scene: Scene, cloud: Cloud
    ) -> None:
        await served(scene)
        view = await certificate_view(cloud, "shops/a b.pfx")
        assert view is not None
        assert sorted(entry["kind"] for entry in view.past) == ["accepted", "live"]
        assert {"uploaded", "judged", "told", "installed", "live"} <= {moment["stage"] for moment in view.moments}
        failing = Failing({"history query": [UnavailableError("reading table history: the service answered 503")]})
        response = await ask(patient(scene.seen_by(failing)), "certificate", {"name": "shops/a b.pfx"})
        assert response.status == 200
        scene.storage.clock.advance(8 * 86_400)
        view = await certificate_view(cloud, "shops/a b.pfx")
        assert view is not None
        assert view.past == []

    async def test_holds_so_many_reports_at_most(self, scene: Scene, cloud: Cloud) -> None:
        await scene.accepted("many.pfx", "a.test")
        for number in range(MOST_REPORTS_SHOWN + 1):
            report = InstallationRecord(
                host="a.test",
                port=443,
                instance=f"web-{number:04}",
                role="*",
                generation=1,
                source="many.pfx",
                outcome=InstallOutcome.LIVE,
                finished_at=START,
                reported_at=START,
            )
            await scene.outside.state.installations.overwrite(("a.test", 443, report.instance), report)
        view = await certificate_view(cloud, "many.pfx")
        assert view is not None
        assert (len(view.installations), view.complete) == (MOST_REPORTS_SHOWN, False)


class TestTheHistoryPage:
    async def test_is_shown_for_a_time_that_is_asked_for(self, cloud: Cloud) -> None:
        for query in ({}, {"since": "2h", "host": "a.test"}):
            assert (await ask(cloud, "history", query)).status == 200

    async def test_says_what_is_wrong_in_a_query(self, cloud: Cloud) -> None:
        response = await ask(cloud, "history", {"since": "yesterday"})
        assert (response.status, "since must be a time such as" in text(response)) == (400, True)


class TestRedeploying:
    async def test_has_every_instance_told_and_leads_back_to_the_upload(self, scene: Scene, cloud: Cloud) -> None:
        await served(scene)
        before = await scene.row("a.test")
        response = await ask(cloud, "redeploy", method="POST", body=b"name=shops/a+b.pfx", headers=OWN_FORM)
        assert response.status == 303
        location = response.headers["Location"]
        assert location == "/api/dashboard/certificate?name=shops%2Fa+b.pfx&done=redeployed&code=k3y"
        assert (await scene.row("a.test")).generation == before.generation + 1
        view = await ask(cloud, "certificate", {"name": "shops/a b.pfx", "done": "redeployed"})
        assert "It is installed once more" in text(view)

    @pytest.mark.parametrize("minutes", [None, 30])
    async def test_is_not_said_by_a_link_where_it_was_not_done_lately(
        self, scene: Scene, cloud: Cloud, minutes: int | None
    ) -> None:
        await served(scene)
        if minutes is not None:
            await ask(cloud, "redeploy", method="POST", body=b"name=shops/a+b.pfx", headers=OWN_FORM)
            scene.storage.clock.advance(60 * minutes)
        view = await ask(cloud, "certificate", {"name": "shops/a b.pfx", "done": "redeployed"})
        assert (view.status, "It is installed once more" in text(view)) == (200, False)

    @pytest.mark.parametrize(
        "headers",
        [
            {**OWN_FORM, "sec-fetch-site": "cross-site"},
            {**OWN_FORM, "sec-fetch-site": "same-site"},
            {"content-type": OWN_FORM["content-type"]},
            {"content-type": OWN_FORM["content-type"], "origin": "https://evil.test"},
        ],
    )
    @pytest.mark.parametrize(
        "access", [Access(), Access(signs_in=True, platform_signs_in=True)], ids=["key", "signed in"]
    )
    async def test_is_not_done_for_another_sites_page(
        self, scene: Scene, cloud: Cloud, headers: dict[str, str], access: Access
    ) -> None:
        await served(scene)
        before = await scene.row("a.test")
        principal = {"X-MS-CLIENT-PRINCIPAL": "eyJjbGFpbXMiOlt7fV19"}
        response = await ask(
            cloud,
            "redeploy",
            method="POST",
            body=b"name=shops/a+b.pfx",
            headers={**principal, **headers},
            access=access,
        )
        assert response.status == 403
        assert "nothing was done" in text(response)
        assert await scene.row("a.test") == before

    @pytest.mark.parametrize(
        ("body", "status", "said"),
        [
            (b"name=unknown.pfx", 404, "unknown.pfx"),
            (b"name=%3Cscript%3E", 404, "&lt;script&gt;"),
            (b"", 400, "the form names no upload"),
            (b"name=bad.pfx", 409, "serves no host"),
        ],
    )
    async def test_that_cannot_be_done_says_why(
        self, scene: Scene, cloud: Cloud, body: bytes, status: int, said: str
    ) -> None:
        await scene.looked_at(await scene.upload("bad.pfx", content=b"no certificate"))
        assert (await scene.record("bad.pfx")).status is UploadStatus.REJECTED
        response = await ask(cloud, "redeploy", method="POST", body=body, headers=OWN_FORM)
        assert response.status == status
        assert said in text(response)


class TestEveryAnswer:
    @pytest.mark.parametrize(
        ("method", "path", "allow"),
        [
            ("POST", "", "GET, HEAD"),
            ("DELETE", "certificate", "GET, HEAD"),
            ("GET", "redeploy", "POST"),
            ("HEAD", "redeploy", "POST"),
        ],
    )
    async def test_to_another_method_names_those_there_are(
        self, cloud: Cloud, method: str, path: str, allow: str
    ) -> None:
        response = await ask(cloud, path, method=method, headers=OWN_FORM)
        assert (response.status, response.headers["Allow"]) == (405, allow)

    async def test_to_head_has_no_body(self, cloud: Cloud) -> None:
        response = await ask(cloud, method="HEAD")
        assert (response.status, response.body) == (200, b"")
        assert "ETag" in response.headers

    @pytest.mark.parametrize(
        "path", ["nothing", "assets/nothing.css", "assets/../pages.py", "assets/", "certificate/x", "a" * 3_000]
    )
    async def test_to_what_is_not_there_is_a_page(self, cloud: Cloud, path: str) -> None:
        response = await ask(cloud, path)
        assert (response.status, response.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
        assert "<html" in text(response)

    async def test_with_an_asset_may_be_kept_by_this_browser_and_is_sent_once(self, cloud: Cloud) -> None:
        page = text(await ask(cloud))
        names = re.findall(r"/api/dashboard/assets/([^?\"]+)\?code=k3y", page)
        assert names
        for name in names:
            found = await ask(cloud, f"assets/{name}")
            assert (found.status, found.headers["Cache-Control"]) == (200, "private, no-cache")
            assert found.body
            again = await ask(cloud, f"assets/{name}", headers={"If-None-Match": found.headers["ETag"]})
            assert (again.status, again.body) == (304, b"")

    @pytest.mark.parametrize("path", ["", "certificate", "history", "redeploy"])
    async def test_where_people_sign_in_needs_one_who_did(self, scene: Scene, cloud: Cloud, path: str) -> None:
        await served(scene)
        method = "POST" if path == "redeploy" else "GET"
        for access in (Access(signs_in=True), Access(signs_in=True, platform_signs_in=True)):
            response = await ask(cloud, path, {"name": "shops/a b.pfx"}, method=method, headers=OWN_FORM, access=access)
            assert response.status in {302, 401, 403}
            assert "a.test" not in text(response)

    async def test_to_a_fault_of_ours_is_a_page_without_it(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        cloud = patient(scene.seen_by(Failing({"uploads get": [ZeroDivisionError("of ours")]})))
        response = await ask(cloud, "certificate", {"name": "a.pfx"})
        assert response.status == 500
        assert "of ours" not in text(response)
        assert "of ours" in caplog.text

    async def test_where_storage_fails_says_what_failed(self, scene: Scene) -> None:
        error = UnavailableError("reading row blob/a.pfx of table uploads: the service answered 503")
        response = await ask(
            patient(scene.seen_by(Failing({"uploads get": [error]}))), "certificate", {"name": "a.pfx"}
        )
        assert response.status == 503
        assert "the service answered 503" in text(response)

    async def test_does_not_wait_for_ever(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(serving, "PAGE_S", 0.02)
        response = await ask(patient(scene.seen_by(StandingStill("uploads get"))), "certificate", {"name": "a.pfx"})
        assert response.status == 503
        assert "did not answer within 0.02 s" in text(response)

    def test_where_a_setting_is_wrong_says_which_to_those_who_may_see_it(self) -> None:
        request = Request.of("GET", "https://app.test/api/dashboard", rest="", query={}, headers={})
        told = serving.unopened(request, Access(), "CERTCAST_TRUST is wrong")
        assert (told.status, b"CERTCAST_TRUST is wrong" in told.body) == (503, True)
        kept = serving.unopened(request, Access(signs_in=True), "CERTCAST_TRUST is wrong")
        assert (kept.status, b"CERTCAST_TRUST is wrong" in kept.body) == (403, False)
