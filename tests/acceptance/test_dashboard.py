"""The dashboard as people use it: Chromium at the address that the local cloud gives, uploads, reading, clicking."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from tests.rigs.browser import chromium, visit
from tests.rigs.certificates import authority
from tests.rigs.programs import needs
from tests.rigs.witness import Witness, eventually, witnessed

AGENTS = 3
ODD_NAME = 'kunden/<b>größe</b> "1" & 50%\u202e.pfx'
SEEN_MS = 10_000
"""A page looks every 3 s."""

pytestmark = [needs("chromium"), pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[Witness]:
    async with witnessed(PlatformSettings(agents=AGENTS, ports=FREE_PORTS)) as witness:
        yield witness


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


async def test_an_upload_is_seen_to_go_live_without_reloading_and_is_installed_once_more_by_a_click(
    cloud: Witness, browser: Browser
) -> None:
    async with visit(browser, still=False) as visitor:
        page = visitor.page
        await page.goto(cloud.platform.dashboard_url)
        await expect(page.locator("h1")).to_have_text("There are no uploads yet", timeout=SEEN_MS)
        await page.evaluate("window.stayed = true")
        issued = authority().issue("seen.test")
        await cloud.goes_live("seen.pfx", issued, live=AGENTS)
        await expect(page.locator("h1")).to_have_text("The one upload is served on every instance", timeout=SEEN_MS)
        row = page.locator("tr", has_text="seen.pfx")
        await expect(row.locator(".badge")).to_have_text("live")
        await expect(row.locator(".count")).to_have_text(f"{AGENTS}/{AGENTS}")
        assert await page.evaluate("window.stayed")
        await expect(page.locator("#announced")).to_contain_text("seen.pfx: live")

        await row.locator("a").first.click()
        await expect(page.locator("h1")).to_have_text("seen.pfx")
        text = await visitor.text()
        assert issued.fingerprint in text
        assert text.count("this one") == AGENTS
        for stage in ("uploaded", "judged", "told", "installed"):
            assert stage in text

        before = await cloud.record("seen.pfx")
        await page.get_by_role("button", name="Redeploy").click()
        await expect(page.locator(".notice")).to_contain_text("It is installed once more")

        async def again() -> bool:
            record = await cloud.record("seen.pfx")
            return record.live == AGENTS and (record.live_at or 0) != before.live_at

        await eventually(again, "seen.pfx to be live once more")
        await expect(page.locator(".answer")).to_contain_text(f"live on {AGENTS}/{AGENTS}", timeout=SEEN_MS)
        assert not visitor.complaints


async def test_a_rejected_upload_with_an_odd_name_is_found_read_and_remembered_without_scripts_too(
    cloud: Witness, browser: Browser
) -> None:
    issued = authority().issue("odd.test")
    await cloud.upload(ODD_NAME, issued.pfx("another password"))
    await cloud.becomes(ODD_NAME, "rejected")
    async with visit(browser, scripts=False) as visitor:
        page = visitor.page
        await page.goto(cloud.platform.dashboard_url)
        await page.locator("input[name=prefix]").fill("kunden/")
        await page.get_by_role("button", name="Show").click()
        row = page.locator("tbody tr", has_text="kunden/<b>größe</b>")
        await expect(row).to_have_count(1, timeout=SEEN_MS)
        await expect(row.locator(".badge")).to_have_text("rejected")
        await row.locator("a").first.click()
        await expect(page.locator("h1")).to_contain_text('kunden/<b>größe</b> "1" & 50%\N{REPLACEMENT CHARACTER}.pfx')
        text = await visitor.text()
        assert "unreadable_bundle" in text
        assert "openssl pkcs12 -info -noout -in shop.pfx" in text
        assert await page.get_by_role("button", name="Redeploy").count() == 0
        await page.get_by_role("link", name="History").click()
        await page.locator("select[name=kind]").select_option("rejected")
        await page.get_by_role("button", name="Show").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await expect(page.locator("tbody tr")).to_contain_text("kunden/<b>größe</b>")
        assert not visitor.complaints
        assert (await page.request.get(cloud.platform.dashboard_url.partition("?")[0])).status == 401
