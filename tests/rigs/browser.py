"""A real Chromium that looks at the dashboard, and what it complained about."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.rigs.deployment import ROOT
from tests.rigs.programs import path_of
from tests.rigs.some import some

AXE = ROOT / "node_modules/axe-core/axe.min.js"
OTHER_HOST = "dashboard.test"
"""This machine by a name that Chromium takes for another one: it trusts what comes from there only by HTTPS."""
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    f"--host-resolver-rules=MAP {OTHER_HOST} 127.0.0.1",
)
DESKTOP, PHONE = (1280, 800), (380, 800)
WAITS_MS = 15_000
"""Longer than a page waits between two looks, however often it failed."""
Scheme = Literal["light", "dark"]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser of the system, until the end of the block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=some(path_of("chromium")), args=_FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Somebody's look at pages.

    Attributes:
        page: What they see.
        complaints: Errors and warnings of the console, among them what the Content-Security-Policy refused.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)

    async def text(self, selector: str = "main") -> str:
        """What can be read there, with single spaces."""
        return " ".join((await self.page.locator(selector).first.inner_text()).split())

    async def looks_again(self) -> None:
        """Let time pass until the page asks whether something changed, and is through with the answer."""
        async with self.page.expect_event("requestfinished", lambda request: request.resource_type == "fetch"):
            await self.page.clock.fast_forward(WAITS_MS)
        await self.page.evaluate("new Promise(requestAnimationFrame)")

    async def cut_off(self) -> Sequence[str]:
        """What is wider than the screen, or than what holds it without a way to scroll there."""
        found: list[str] = await self.page.evaluate(_CUT_OFF)
        return found

    async def barriers(self, *rules: str) -> Sequence[str]:
        """What axe-core finds that keeps people out, by rule and place; of all its rules, or of these."""
        await self.page.evaluate(AXE.read_text("utf-8"))
        chosen = {"runOnly": rules} if rules else {"rules": {"target-size": {"enabled": True}}}
        found: dict[str, Any] = await self.page.evaluate(
            "chosen => axe.run(document, {resultTypes: ['violations'], ...chosen})", chosen
        )
        assert found["passes"], "axe-core looked at nothing"
        return [f"{each['id']}: {node['html'][:200]}" for each in found["violations"] for node in each["nodes"]]


_CUT_OFF = """() => {
  const wide = document.documentElement.clientWidth;
  const canScroll = (element) => /auto|scroll/.test(getComputedStyle(element).overflowX);
  const scrolls = (element) => element && (canScroll(element) || scrolls(element.parentElement));
  return [...document.body.querySelectorAll("*:not(.hidden):not(.skip)")]
    .filter((element) => element.getBoundingClientRect().right > wide + 1 && !scrolls(element.parentElement))
    .map((element) => element.outerHTML.slice(0, 120));
}"""


@asynccontextmanager
async def visit(
    browser: Browser,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Scheme = "light",
    scripts: bool = True,
    still: bool = True,
) -> AsyncIterator[Visit]:
    """Open a window of its own.

    Args:
        browser: Where.
        size: Width and height in CSS pixels.
        scheme: What the person prefers.
        scripts: Whether JavaScript is switched on.
        still: Whether no time passes in its pages but by `looks_again`.
    """
    context: BrowserContext = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    try:
        page = await context.new_page()
        if still:
            await page.clock.install()
        found = Visit(page=page)

        def hear(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                found.complaints.append(message.text)

        page.on("console", hear)
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        yield found
    finally:
        await context.close()
