"""What becomes of a page of docs/ before MkDocs reads it."""

import re
from html import unescape

import pytest
from markdown import markdown  # type: ignore[import-untyped]
from markdown_it import MarkdownIt

from devtools.site_pages import anchor, indented, relinked, site_uri

NUMBERED = """Do this:
1. First.

   ```sh
   run "
       it"
   ```

   | a | b |
   |---|---|
   | 1 | 2 |

   Then:
2. Second,
   on two lines
   - inner
     still inner

     - innermost
   - inner again
10. Third
- another list
"""
LAZY = """* one
continued

* two

        code of four
"""


@pytest.mark.parametrize("written", [NUMBERED, LAZY, "- a\n- b\n\n      code\n\ntext\n", "no list\n"])
def test_lists_are_read_as_github_reads_them(written: str) -> None:
    github = MarkdownIt("commonmark").enable("table").render(written)
    site = markdown(indented(written), extensions=["sane_lists", "tables", "pymdownx.superfences"])
    assert shape(site) == shape(github)


def shape(html: str) -> list[str]:
    """Elements and words, but for paragraphs, which stand closer or further apart, and colours of code."""
    html = re.sub(r"</?(?:div|p|span|tbody|thead)\b[^>]*>", "", html)
    return unescape(re.sub(r"<(/?\w+)[^>]*>", r" <\1> ", html)).split()


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        (
            "docs/uploading.md",
            "../README.md#what-the-metadata-may-say",
            "project/overview.md#what-the-metadata-may-say",
        ),
        ("docs/events/README.md", "../../CONTRIBUTING.md", "../project/contributing.md"),
        ("docs/deploy.md", "../infra/agent/install.ps1", "repository/infra/agent/install.ps1.md"),
        ("docs/deploy.md", "../infra/agent/", "repository/infra/agent/index.md"),
        ("docs/deploy.md", "decisions", "decisions/README.md"),
        ("docs/deploy.md", "settings.md#the-function", "settings.md#the-function"),
        ("README.md", "docs/pictures/fleet.png", "../pictures/fleet.png"),
        ("README.md", "docs/quickstart.md#5-renew-it", "../quickstart.md#5-renew-it"),
        ("CONTRIBUTING.md", "LICENSE", "../repository/LICENSE.md"),
    ],
)
def test_a_link_leads_to_where_the_site_has_its_file(page: str, link: str, there: str) -> None:
    assert relinked(f"See [it]({link}), and", page) == f"See [it]({there}), and"


@pytest.mark.parametrize("text", ["[a](https://www.example.com/a.md)", "[a](#here)", "```md\n[a](../README.md)\n```"])
def test_what_leads_out_within_the_page_or_is_code_stays(text: str) -> None:
    assert relinked(text, "docs/deploy.md") == text


def test_headings_have_githubs_anchors() -> None:
    assert anchor("7. What's `certcast_bundle`, and why?", "-") == "7-whats-certcast_bundle-and-why"
    assert site_uri("docs/verdicts.md") == "verdicts.md"
