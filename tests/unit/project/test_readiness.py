"""When a commit can be released, and what is said where it cannot."""

from datetime import date
from pathlib import Path

import pytest

from devtools.cures import SetupError
from devtools.packages.changelog import UNRELEASED, Section, notes, sections
from devtools.packages.readiness import Check, changes, numbered, release_of
from shared import VERSION
from tests.rigs.deployment import ROOT
from tests.rigs.pages import text_of

TODAY = date(2030, 1, 31)
HEAD = "# Changelog\n\nWords.\n\n"
NEWS = "### Added\n\n- Something.\n"
OLD = "## 0.1.0 - 2029-12-01\n\nThe first.\n"


def changed(text: str) -> Check:
    return changes(HEAD + text + OLD, release="0.2.0", today=TODAY)


class TestTheChanges:
    def test_of_a_release_stand_under_its_version_and_day(self) -> None:
        done = changed(f"## Unreleased\n\n## 0.2.0 - 2030-01-31\n\n{NEWS}\n")
        assert (done.faults, done.steps) == ((), ())

    def test_that_are_unreleased_get_a_heading_before_the_tag(self) -> None:
        done = changed(f"## Unreleased\n\n{NEWS}\n")
        assert done.faults == ()
        assert done.steps == ("in CHANGELOG.md, put `## 0.2.0 - 2030-01-31` below `## Unreleased`",)

    @pytest.mark.parametrize("text", ["", "## Unreleased\n\n", "## Unreleased\n\n## 0.2.0 - 2030-01-31\n\n"])
    def test_must_be_told(self, text: str) -> None:
        assert changed(text).faults == ("CHANGELOG.md does not say what is new in 0.2.0",)

    def test_have_a_day(self) -> None:
        assert changed(f"## 0.2.0\n\n{NEWS}\n").faults == (
            "in CHANGELOG.md, 0.2.0 has no date: write `## 0.2.0 - 2030-01-31`",
        )

    def test_that_came_after_the_heading_are_put_below_it(self) -> None:
        done = changed(f"## Unreleased\n\n{NEWS}\n## 0.2.0 - 2030-01-31\n\n{NEWS}\n")
        assert done.faults == ("in CHANGELOG.md, what stands under Unreleased is in 0.2.0 too: move it there",)


class TestTheVersion:
    @pytest.mark.parametrize(
        ("version", "tag", "tags", "faults", "steps"),
        [
            ("0.2.0", "v0.2.0", {"v0.2.0"}, "", ""),
            ("0.2.0", "", {"v0.1.0"}, "", ""),
            ("0.2.0.dev0", "", {"v0.1.0"}, "", 'in shared/__init__.py, write VERSION = "0.2.0"'),
            ("0.2.0", "", {"v0.2.0"}, "v0.2.0 is released: write the next version into shared/__init__.py", ""),
            ("0.2.0.dev0", "", {"v0.2.0"}, "v0.2.0 is released: write the next version into shared/__init__.py", ""),
            ("0.2.0", "v0.3.0", set(), "the tag is v0.3.0, and shared/__init__.py says 0.2.0", ""),
            ("0.2.0.dev0", "v0.2.0", set(), "the tag is v0.2.0, and shared/__init__.py says 0.2.0.dev0", ""),
        ],
    )
    def test_is_the_tags_or_one_without(self, version: str, tag: str, tags: set[str], faults: str, steps: str) -> None:
        done = numbered(version, tag=tag, tags=frozenset(tags))
        assert ("".join(done.faults), "".join(done.steps)) == (faults, steps)

    @pytest.mark.parametrize("version", ["1.2", "1.2.3rc1", "v1.2.3", "1.2.3.dev1", ""])
    def test_of_another_form_is_refused(self, version: str) -> None:
        with pytest.raises(SetupError, match=r"VERSION must be three numbers"):
            release_of(version)


def test_the_changelog_is_kept_in_the_order_and_with_the_dates_of_its_releases() -> None:
    found = sections(text_of(Path("CHANGELOG.md")))
    assert found
    released = [section for section in found if section.version != UNRELEASED]
    assert [section.version for section in found[: len(found) - len(released)]] in ([], [UNRELEASED])
    order = [(date.fromisoformat(section.date), tuple(map(int, section.version.split(".")))) for section in released]
    assert order == sorted(order, reverse=True)
    assert len({version for _, version in order}) == len(order)


def test_the_version_is_what_the_top_of_the_changelog_leads_to() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert changes(text, release=release_of(VERSION), today=TODAY).faults == ()


def test_notes_have_a_line_for_each_item_and_lead_to_the_files_of_the_release() -> None:
    text = "### Added\n\n- [a](docs/a.md#b),\n  [c](https://example.com/c)\n- `d`,\n  `e`\n\n[f](#g)\nh"
    section = Section(version="1.0.0", date="2030-01-31", text=text)
    there = "https://example.com/blob/v1.0.0"
    links = f"[a]({there}/docs/a.md#b), [c](https://example.com/c)"
    assert notes(section, there) == f"### Added\n\n- {links}\n- `d`, `e`\n\n[f](#g) h\n"
