"""The dashboard's pages in a real Chromium: what people see, reach by keyboard and are told while they look."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from shared.state.document import upload_document
from shared.state.records import UploadStatus
from tests.rigs.browser import DESKTOP, OTHER_HOST, PHONE, Scheme, chromium, visit
from tests.rigs.dashboard import Pages, view_of
from tests.rigs.programs import needs
from tests.rigs.served_pages import Query, Served, served
from tests.rigs.tenants import NOW, Tenants, live, tenants

MANY = 10_000
HOSTILE = "<img src=x onerror=alert(1)>\"' \u202egpj.exe " + "x" * 255

pytestmark = [needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Served]:
    async with served() as found:
        yield found


@pytest.fixture(autouse=True)
def shown(server: Served) -> Served:
    show(server, tenants())
    return server


def show(server: Served, platform: Tenants) -> None:
    made = Pages(of=platform, code="key")

    def fleet(query: Query) -> str:
        return made.fleet(query=query)

    server.made = {
        "": fleet,
        "certificate": lambda query: made.certificate(query["name"]),
        "history": lambda _: made.history(),
        "problem": lambda _: made.problem(),
    }


def hostile() -> Tenants:
    platform = tenants()
    upload = next(each for each in platform.uploads if each.violations)
    known = platform.instances["web-0"]
    instance = replace(known.value, id=HOSTILE, role=HOSTILE, trouble=HOSTILE, target_kind=HOSTILE)
    violations = tuple(replace(each, detail=HOSTILE * 3) for each in upload.violations)
    record = replace(
        upload, name=HOSTILE, hosts=(HOSTILE, HOSTILE), reason=HOSTILE, subject=HOSTILE, violations=violations
    )
    reports = [replace(each, source=HOSTILE, instance=HOSTILE, host=HOSTILE) for each in platform.installations[:3]]
    return Tenants(
        uploads=[record, *platform.uploads],
        instances={**platform.instances, HOSTILE: replace(known, value=instance)},
        installations=reports,
        history=[replace(each, name=HOSTILE, hosts=(HOSTILE,), reason=HOSTILE) for each in platform.history[:3]],
    )


REJECTED, PARTLY = "/certificate?name=reisebuero-ost/new.pfx", "/certificate?name=optik-sander/www.pfx"


LOOKS: Sequence[tuple[tuple[int, int], Scheme, Sequence[str], Sequence[str]]] = (
    (DESKTOP, "light", ("", REJECTED, "/history"), ()),
    (DESKTOP, "dark", ("", REJECTED), ("color-contrast",)),
    (PHONE, "light", ("", PARTLY), ()),
)


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark", "phone"])
async def test_nothing_keeps_people_out_and_nothing_is_cut_off(
    browser: Browser, server: Served, look: tuple[tuple[int, int], Scheme, Sequence[str], Sequence[str]]
) -> None:
    size, scheme, paths, rules = look
    async with visit(browser, size=size, scheme=scheme) as visitor:
        for path in paths:
            await visitor.page.goto(server.url + path)
            assert not await visitor.barriers(*rules), path
            assert not await visitor.cut_off(), path
        assert not visitor.complaints


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
async def test_hostile_names_neither_act_nor_break_the_page(
    browser: Browser, server: Served, size: tuple[int, int]
) -> None:
    show(server, hostile())
    async with visit(browser, size=size) as visitor:
        await visitor.page.goto(server.url)
        assert "<img src=x onerror=alert(1)>" in await visitor.text()
        assert not await visitor.cut_off()
        await visitor.page.locator("th a", has_text="<img src=x").first.click()
        await expect(visitor.page.locator("h1")).to_contain_text("<img src=x onerror=alert(1)>")
        assert not await visitor.cut_off()
        await visitor.page.goto(f"{server.url}/history")
        assert not await visitor.cut_off()
        assert await visitor.page.locator("img:not(header img)").count() == 0
        assert not visitor.complaints


async def test_what_these_tests_look_for_would_be_seen(browser: Browser, server: Served) -> None:
    async with visit(browser) as visitor:
        page = visitor.page
        await page.goto(server.url)
        await page.evaluate("document.querySelector('h1').innerHTML = '<img src=x onerror=alert(1)>'")
        await page.evaluate("document.querySelector('footer').innerHTML = '<svg width=2000></svg>'")
        assert any("image-alt" in barrier for barrier in await visitor.barriers("image-alt"))
        assert any("<svg" in element for element in await visitor.cut_off())
        assert any("Content Security Policy" in complaint for complaint in visitor.complaints)


async def test_a_change_is_seen_without_reloading_and_without_losing_ones_place(
    browser: Browser, server: Served
) -> None:
    platform = tenants()
    before = replace(platform.uploads[0], status=UploadStatus.ACCEPTED, live=2)
    show(server, replace(platform, uploads=[before, *platform.uploads[1:]]))
    async with visit(browser) as visitor:
        page = visitor.page
        await page.goto(server.url)
        row = page.locator("tr", has_text=before.name)
        await expect(row).to_contain_text("accepted")
        await page.evaluate("window.stayed = true")
        await page.locator("select[name=status]").select_option("live")
        await page.locator("input[name=prefix]").fill("alp")
        await page.evaluate("window.scrollTo(0, 300)")
        place = "document.querySelector('[data-key^=kino]').getBoundingClientRect().top"
        stood = await page.evaluate(place)
        show(server, platform)
        await visitor.looks_again()
        await expect(row.locator(".badge")).to_have_text("live")
        await expect(row.locator(".count")).to_have_text("5/5")
        await expect(page.locator("#announced")).to_have_text(f"{before.name}: live")
        assert await page.evaluate("window.stayed")
        assert await page.evaluate("document.activeElement.name") == "prefix"
        assert await page.locator("input[name=prefix]").input_value() == "alp"
        assert await page.locator("select[name=status]").input_value() == "live"
        assert await page.evaluate(place) == pytest.approx(stood, abs=1)
        server.asked.clear()
        await visitor.looks_again()
        assert server.asked == [304]
        await expect(page.locator("#freshness")).to_have_text("as of 12:00:06 UTC")
        assert not visitor.complaints


@pytest.mark.parametrize(("host", "says_where_from"), [("127.0.0.1", True), (OTHER_HOST, False)])
async def test_its_form_counts_as_its_own_also_where_a_browser_tells_no_more_than_the_origin(
    browser: Browser,
    server: Served,
    host: str,
    says_where_from: bool,  # noqa: FBT001
) -> None:
    server.forms.clear()
    async with visit(browser) as visitor:
        await visitor.page.goto(server.url.replace("127.0.0.1", host) + PARTLY)
        await visitor.page.get_by_role("button", name="Redeploy").click()
        await expect(visitor.page.locator("body")).to_have_text("taken")
        [(headers, is_own)] = server.forms
        assert ("sec-fetch-site" in headers, is_own) == (says_where_from, True)
        assert headers["origin"] == server.url.replace("127.0.0.1", host).removesuffix("/api/dashboard")


async def test_of_many_changes_a_few_are_said(browser: Browser, server: Served) -> None:
    platform = tenants()
    show(server, replace(platform, uploads=[replace(each, status=UploadStatus.FAILED) for each in platform.uploads]))
    async with visit(browser) as visitor:
        await visitor.page.goto(server.url)
        show(server, platform)
        await visitor.looks_again()
        said = await visitor.page.locator("#announced").inner_text()
        assert said.count(": ") == 3
        assert said.endswith("; and 9 more changes")


async def test_open_details_stay_open_and_rows_that_move_keep_their_focus(browser: Browser, server: Served) -> None:
    platform = tenants()
    rejected = next(each for each in platform.uploads if each.violations)
    async with visit(browser) as visitor:
        page = visitor.page
        await page.goto(server.url + REJECTED)
        await page.locator("summary").first.click()
        show(server, replace(platform, uploads=[replace(rejected, reason="the operator was told")]))
        await visitor.looks_again()
        await expect(page.locator("main")).to_contain_text("the operator was told")
        assert await page.locator("details").first.get_attribute("open") is not None
        show(server, platform)
        await page.goto(f"{server.url}?sort=expiry")
        await page.locator("th a", has_text="optik-sander/").focus()
        first = live("new/new.pfx", ["new.example"], days_left=300, seconds=1)
        sooner = [replace(each, not_after=NOW + timedelta(days=3)) for each in platform.uploads if "optik" in each.name]
        show(server, replace(platform, uploads=[first, *platform.uploads[2:9], *sooner]))
        await visitor.looks_again()
        names = await page.locator("tbody").first.locator("th").all_inner_texts()
        assert (names[0], names[-1], len(names)) == ("optik-sander/www.pfx", "new/new.pfx", 9)
        assert await page.locator(":focus").inner_text() == "optik-sander/www.pfx"


async def test_it_says_when_the_server_cannot_be_reached_and_asks_nothing_while_it_is_hidden(
    browser: Browser, server: Served
) -> None:
    async with visit(browser) as visitor:
        page, freshness = visitor.page, visitor.page.locator("#freshness")
        await page.goto(server.url)
        await expect(freshness).to_have_text("as of 12:00:03 UTC")
        made, server.made = server.made, {}
        await visitor.looks_again()
        await expect(freshness).to_have_text("the server answers 503; as of 12:00:03 UTC")
        await expect(page.locator("#announced")).to_have_text("the server answers 503")
        server.made = made
        await visitor.looks_again()
        await expect(freshness).to_have_text("as of 12:00:03 UTC")
        hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        hide += " document.dispatchEvent(new Event('visibilitychange')); }"
        await page.evaluate(hide, True)
        await expect(freshness).to_contain_text("paused")
        server.asked.clear()
        await page.clock.fast_forward(60_000)
        assert not server.asked
        async with page.expect_response(lambda answer: answer.status == 304):
            await page.evaluate(hide, False)
        await expect(freshness).to_have_attribute("data-state", "live")


async def test_all_of_it_works_by_keyboard(browser: Browser, server: Served) -> None:
    async with visit(browser) as visitor:
        page = visitor.page
        await page.goto(server.url)
        await page.keyboard.press("Tab")
        assert await page.locator(":focus").inner_text() == "Skip to the content"
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert await page.evaluate(outline) == "solid"
        await page.keyboard.press("Enter")
        reached = []
        for _ in range(24):
            await page.keyboard.press("Tab")
            assert await page.evaluate(outline) == "solid"
            reached.append(await page.evaluate("document.activeElement.name || document.activeElement.innerText"))
        assert [name for name in reached if name in {"host", "prefix", "status", "instance", "expiring", "failed"}] == [
            *("host", "prefix", "status", "instance", "expiring", "failed")
        ]
        await page.locator("input[name=prefix]").focus()
        await page.keyboard.type("optik")
        await page.keyboard.press("Enter")
        await expect(page.locator("tbody").first.locator("tr")).to_have_count(1)
        await page.locator("th a", has_text="optik-sander").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text("optik-sander/www.pfx")
        assert "code=key" in page.url


async def test_without_scripts_people_filter_sort_and_read_all_the_same(browser: Browser, server: Served) -> None:
    async with visit(browser, scripts=False) as visitor:
        page = visitor.page
        await page.goto(server.url)
        await page.locator("select[name=status]").select_option("rejected")
        await page.locator("button", has_text="Show").click()
        await expect(page.locator("tbody").first.locator("tr")).to_have_count(1)
        await page.locator("th a", has_text="reisebuero-ost").click()
        await expect(page.locator("main")).to_contain_text("order a certificate for these names")
        await page.locator("summary").first.click()
        assert await page.locator("details").first.get_attribute("open") is not None


async def test_ten_thousand_uploads_are_paged_sorted_and_filtered(browser: Browser, server: Served) -> None:
    number = range(MANY)
    uploads = [
        upload_document(live(f"t/{each:05}.pfx", [f"h{each}.example"], days_left=each % 90 + 15.5, seconds=1))
        for each in number
    ]
    view = view_of(uploads, Pages().view().instances)
    made = Pages(code="key")
    server.made[""] = lambda query: made.fleet(view, query)
    async with visit(browser) as visitor:
        page = visitor.page
        await page.goto(server.url)
        assert "All 10,000 uploads are served on every instance that runs" in await visitor.text("h1")
        assert "1 to 100 of 10,000" in await visitor.text()
        await page.locator("a[rel=next]").click()
        await expect(page.locator("tbody").first.locator("tr").first).to_contain_text("t/00100.pfx")
        await page.locator("thead a", has_text="Ends in").first.click()
        await expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Ends in")
        await expect(page.locator("tbody").first.locator("tr").first).to_contain_text("15 days")
        await page.locator("thead a", has_text="Ends in").first.click()
        await expect(page.locator("th[aria-sort=descending]")).to_contain_text("Ends in")
        await expect(page.locator("tbody").first.locator("tr").first).to_contain_text("104 days")
        await page.locator("input[name=host]").fill("h77.example")
        await page.locator("button", has_text="Show").click()
        await expect(page.locator("tbody").first.locator("tr")).to_have_count(1)
        assert "1 to 1 of 1 that fit the filter" in await visitor.text()
        assert not visitor.complaints
    started = time.perf_counter()
    made.fleet(view, {"sort": "-expiry", "offset": "5000", "host": "example"})
    assert time.perf_counter() - started < 2  # far from the 300 ms that are measured where nothing else runs
