"""What the site of docs/ needs beyond MkDocs: what it links to outside docs/, and lists as GitHub reads them.

MkDocs runs this module as a hook (`mkdocs.yml`). The pages are written for a reader of the repository: links lead to
files, also to those outside docs/. Here each of those becomes a page of the site, so that the site needs no address of
the repository and no link leads out of it.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs/"
PROJECT = "project/"
"""Where the pages at the top of the repository are on the site."""
SOURCE = "repository/"
"""Where the site shows other files of the repository: as they are, a page each."""
ICON = "shared/function/dashboard/assets/favicon.svg"

_LINK = re.compile(
    r"^(?P<in> *)(?P<fence>```+).*?^(?P=in)(?P=fence)$"  # in which nothing is a link
    r"|\]\((?![a-z]+:|#)(?P<file>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)",
    re.DOTALL | re.MULTILINE,
)
_MARKER = re.compile(r" {0,3}(?:[-*+]|\d{1,9}[.)]) {1,4}(?=\S)")
_LANGUAGES = {".json": "json", ".ps1": "powershell", ".py": "python", ".sh": "bash", ".toml": "toml",
              ".service": "ini", ".yaml": "yaml", ".yml": "yaml"}  # fmt: skip


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give headings GitHub's anchors, and put the pages of a folder where the navigation names the folder."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = anchor
    config.nav = _expanded(config.nav or [])
    return config


def anchor(heading: str, _separator: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to outside docs/, what that links to, and so on."""
    waiting = ["README.md", *(f"{DOCS}{file.src_uri}" for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not path.startswith(DOCS):
            files.append(File.generated(config, site_uri(path), content=_content(path)))
        linked = {file for file in _linked_from(path) if (ROOT / file).exists()} - seen
        waiting += linked
        seen |= linked
    files.append(File.generated(config, "assets/favicon.svg", abs_src_path=str(ROOT / ICON)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Have links lead to where the site has their files, and lists be read as GitHub reads them."""
    del config, files
    uri = page.file.src_uri
    if page.file.generated_by is None:
        markdown = relinked(markdown, f"{DOCS}{uri}")
    return indented(markdown)


def site_uri(path: str) -> str:
    """Where the site has a file of the repository, relative to its root, as MkDocs names sources.

    Args:
        path: Relative to the repository's root.
    """
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    if "/" not in path and path.endswith(".md"):
        return f"{PROJECT}{path.lower()}" if path != "README.md" else f"{PROJECT}overview.md"
    if path.endswith(".md"):
        return f"{SOURCE}{path}"
    return f"{SOURCE}{path}/index.md" if (ROOT / path).is_dir() else f"{SOURCE}{path}.md"


def relinked(markdown: str, path: str) -> str:
    """A page's text with each link leading to where the site has its file.

    Args:
        markdown: The text.
        path: The page, relative to the repository's root.
    """
    folder = PurePosixPath(site_uri(path)).parent.as_posix()

    def lead(match: re.Match[str]) -> str:
        if match["fence"]:
            return match[0]
        return f"]({relpath(site_uri(_file(path, match['file'])), folder)}{match['anchor'] or ''})"

    return _LINK.sub(lead, markdown)


def indented(markdown: str) -> str:
    """A page's text in which what belongs to an item of a list is indented by four spaces, as Python-Markdown needs it.

    GitHub reads CommonMark, where the item's own text says how far: two or three spaces (spec.commonmark.org, "List
    items"). An empty line goes before each list, and before each item of one that has empty lines: without it
    Python-Markdown takes them for more of the paragraph.
    """
    lines = markdown.split("\n")
    within: list[list[int]] = [[] for _ in lines]  # the columns at which the text of the items around a line begins
    marked, apart = set[int](), set[int]()
    for first, end, after_an_empty_line in _items(markdown):
        outer = within[first][-1] if within[first] else 0
        if marker := _MARKER.match(lines[first][outer:]):
            marked.add(first)
            for columns in within[first:end]:
                columns.append(outer + marker.end())
        if after_an_empty_line:
            apart.add(first)
    written: list[str] = []
    for number, line in enumerate(lines):
        if number in apart and written and written[-1].strip():
            written.append("")
        depth = len(within[number]) - (number in marked)
        written.append(f"{' ' * 4 * depth}{_without(line, within[number])}")
    return "\n".join(written)


def _items(markdown: str) -> Iterator[tuple[int, int, bool]]:
    """The items of lists, outer ones first: first line, line after the last, whether an empty one goes before."""
    lines = markdown.split("\n")
    loose: list[bool] = []  # whether the lists around have empty lines
    first_of_all = False
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        begins, ends = token.map or (0, 0)
        if token.type in {"bullet_list_open", "ordered_list_open"}:
            loose.append(not all(line.strip() for line in "\n".join(lines[begins:ends]).rstrip().split("\n")))
            first_of_all = len(loose) == 1
        elif token.type in {"bullet_list_close", "ordered_list_close"}:
            loose.pop()
        elif token.type == "list_item_open":
            yield begins, ends, loose[-1] or first_of_all
            first_of_all = False


def _without(line: str, columns: Sequence[int]) -> str:
    """A line without the indentation that it has as part of a list's item."""
    return line[min(columns[-1], len(line) - len(line.lstrip())) :] if columns else line


def _expanded(nav: Sequence[Any]) -> list[Any]:
    """The navigation with the pages of a folder in place of its name, in the order in which its README links them."""
    found: list[Any] = []
    for item in nav:
        [(title, value)] = item.items() if isinstance(item, dict) else [("", item)]
        if isinstance(value, list):
            found.append({title: _expanded(value)})
        elif value.endswith("/"):
            readme = f"{DOCS}{value}README.md"
            linked = dict.fromkeys(path for path in _linked_from(readme) if path.startswith(f"{DOCS}{value}"))
            found.append({title: [site_uri(path) for path in [readme, *linked] if path.endswith(".md")]})
        else:
            found.append(item)
    return found


def _linked_from(path: str) -> Iterator[str]:
    """The files that a page links to, relative to the repository's root; other files link to none."""
    if path.endswith(".md"):
        for match in _LINK.finditer((ROOT / path).read_text("utf-8")):
            if match["file"]:
                yield _file(path, match["file"])


def _file(page: str, target: str) -> str:
    """The file that a link of a page leads to; a folder's is its README where it has one."""
    path = normpath(f"{PurePosixPath(page).parent}/{target}")
    readme = f"{path}/README.md"
    return readme if (ROOT / readme).is_file() else path


def _content(path: str) -> str:
    if path.endswith(".md"):
        return relinked((ROOT / path).read_text("utf-8"), path)
    if (ROOT / path).is_dir():
        files = sorted(file.name for file in (ROOT / path).iterdir() if not file.name.startswith((".", "__")))
        return f"# {path}\n\n" + "\n".join(f"- `{name}`" for name in files) + "\n"
    text = (ROOT / path).read_text("utf-8").rstrip("\n")
    language = _LANGUAGES.get(PurePosixPath(path).suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n````{language}\n{text}\n````\n"
