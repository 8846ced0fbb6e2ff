"""The site of docs/, built once: no warning, no lost link, no page outside the menu, nothing from another host."""

import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from markdown_it import MarkdownIt

from devtools.site_pages import site_uri
from tests.rigs.browser import PHONE, chromium, visit
from tests.rigs.deployment import ROOT
from tests.rigs.pages import PAGES, text_of
from tests.rigs.programs import needs

DOCS = [page for page in PAGES if page.parts[0] == "docs"]
SITE = "http://site.test/"
COUNTED = {"ul", "ol", "li", "table", "tr", "pre", "blockquote", "img", "h2", "h3"}
"""What a page has as many of on the site as on GitHub."""


@dataclass(slots=True)
class Html(HTMLParser):
    """A page as far as it is looked at.

    Attributes:
        links: Where its links lead, as they are written.
        fetched: What a browser fetches to show it.
        menu: Where the links of its menu lead.
        ids: What a link may lead to within it.
        counted: Its article's elements.
    """

    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    menu: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    _in: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin."""
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Enter an element."""
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
            if "nav" in self._in and "md-nav__link" in values.get("class", ""):
                self.menu.append(values["href"])
        elif tag == "link" and "href" in values and values.get("rel") not in {"prev", "next", "canonical"}:
            self.fetched.append(values["href"])
        self.fetched += [values[name] for name in ("src", "data", "poster") if name in values]
        if tag in {"nav", "article"}:
            self._in.append(tag)
        if "article" in self._in and tag in COUNTED:
            self.counted[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        if tag in {"nav", "article"}:
            self._in.remove(tag)


@cache
def html(path: Path) -> Html:
    parsed = Html()
    parsed.feed(path.read_text("utf-8"))
    return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A built site.

    Attributes:
        folder: Where it is.
        code: How building it ended.
        said: What was said meanwhile.
    """

    folder: Path
    code: int
    said: str

    @property
    def pages(self) -> list[Path]:
        return sorted(self.folder.rglob("*.html"))

    def there(self, page: Path, link: str) -> tuple[Path, str]:
        """The file and the anchor that a link of a page leads to."""
        parts = urlsplit(urljoin(f"{SITE}{page.relative_to(self.folder).as_posix()}", link))
        path = self.folder / unquote(parts.path).removeprefix("/")
        return path / "index.html" if path.is_dir() else path, unquote(parts.fragment)

    def page_of(self, page: Path) -> Path:
        """What became of a page of docs/."""
        path = (self.folder / site_uri(page.as_posix())).with_suffix(".html")
        return path.with_name("index.html") if path.stem == "README" else path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Built(folder=folder, code=built.returncode, said=built.stdout)


def test_it_is_built_without_a_warning(site: Built) -> None:
    assert not re.findall(r"^(?:WARNING|ERROR).*$", site.said, re.MULTILINE)
    assert site.code == 0, site.said


def test_every_page_of_docs_is_in_the_menu(site: Built) -> None:
    home = site.folder / "index.html"
    listed = {site.there(home, link)[0] for link in html(home).menu}
    assert not [str(page) for page in DOCS if site.page_of(page) not in listed], "add it to `nav` in mkdocs.yml"
    assert {site.folder / "project" / f"{name}.html" for name in ("contributing", "changelog", "security")} <= listed


def test_every_link_leads_somewhere_on_the_site(site: Built) -> None:
    lost, followed = [], 0
    for page in site.pages:
        for link in html(page).links + html(page).fetched:
            if urlsplit(link).scheme in {"http", "https", "mailto", "data"}:
                continue
            file, anchor = site.there(page, link)
            followed += 1
            if not file.is_file() or (anchor and anchor not in html(file).ids):
                lost.append(f"{page.relative_to(site.folder)}: {link}")
    assert not lost
    assert followed > 100 * len(DOCS) / 2


def test_no_page_and_no_style_fetches_anything_from_another_host(site: Built) -> None:
    fetched = {(page.name, source) for page in site.pages for source in html(page).fetched}
    assert not [(page, source) for page, source in fetched if urlsplit(source).netloc]
    styles = [path.read_text("utf-8") for path in site.folder.rglob("*.css")]
    assert styles
    assert not [found for style in styles for found in re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style)]


@pytest.mark.parametrize("page", DOCS, ids=str)
def test_a_page_is_read_as_github_reads_it(site: Built, page: Path) -> None:
    """Else indent what belongs to an item of a list as far as its text, and leave a line empty around tables."""
    github = Html()
    github.feed(f"<article>{MarkdownIt('commonmark').enable('table').render(text_of(page))}</article>")
    assert {tag: html(site.page_of(page)).counted[tag] for tag in COUNTED} == {
        tag: github.counted[tag] for tag in COUNTED
    }


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The site's address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@needs("chromium")
async def test_people_read_it_and_search_it_and_their_browser_asks_no_other_host(site: Built) -> None:
    elsewhere: list[str] = []
    with served(site.folder) as url:
        async with (
            chromium() as browser,
            visit(browser, still=False) as desk,
            visit(browser, size=PHONE, scheme="dark", still=False) as phone,
        ):
            for visitor in (desk, phone):
                visitor.page.on(
                    "request", lambda request: None if request.url.startswith(url) else elsewhere.append(request.url)
                )
                for path in ("index.html", "uploading.html"):
                    await visitor.page.goto(url + path)
                    assert not [found for found in await visitor.cut_off() if "md-search" not in found], path
                    assert not await visitor.barriers("color-contrast", "link-in-text-block"), path
            search = desk.page.locator("input.md-search__input")
            await search.fill("host_not_covered")
            await search.press("End")  # it listens to keys
            await desk.page.locator(".md-search-result__item", has_text="Verdicts").locator("a").first.click()
            await desk.page.wait_for_url(f"{url}verdicts.html**")
            assert "host_not_covered" in await desk.text("article")
            assert not desk.complaints + phone.complaints
    assert not elsewhere
