"""What people are shown of many uploads and instances, at any width and height."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group

from operator_cli.status_choice import choosing_options, wish_of
from operator_cli.status_overview import MOST_UNASKED, WHOLE, Overview, Wish, narrowed, overview
from operator_cli.status_watch import Screenful
from shared.state.document import Document, status_document
from shared.state.overview import Asked
from shared.state.records import InstanceRecord, UploadRecord, UploadStatus
from shared.state.rows import Versioned
from shared.verdict import VerdictCode, Violation
from tests.rigs.rows import registered

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
LIVE = UploadRecord(
    name="shop.pfx",
    revision=1,
    status=UploadStatus.LIVE,
    hosts=("www.example.com",),
    live=3,
    total=3,
    not_after=NOW + timedelta(days=60),
)
REJECTED = replace(
    LIVE,
    name="bad.pfx",
    status=UploadStatus.REJECTED,
    live=0,
    total=0,
    violations=(Violation(code=VerdictCode.EXPIRED, detail="It ended on 2029-12-31."),),
)
NO_WISH = Wish(asked=Asked())


def uploads(count: int) -> list[UploadRecord]:
    return [replace(LIVE, name=f"shop-{number:05}.pfx") for number in range(count)]


def instances(count: int, **others: Any) -> list[Versioned[InstanceRecord]]:
    records = [registered(f"web-{number}", at=NOW, ready=True, **others) for number in range(count)]
    return [Versioned(value=record, etag="1", written_at=NOW) for record in records]


def document(
    records: Sequence[UploadRecord], known: Sequence[Versioned[InstanceRecord]] = (), unreadable: int = 0
) -> Document:
    return status_document(records, known, now=NOW) | {"unreadable_rows": unreadable}


def names(found: Overview) -> list[str]:
    return [upload["name"] for upload in found.uploads]


def drawn(found: Overview, *, columns: int = 200) -> list[str]:
    console = Console(width=columns, force_terminal=False)
    with console.capture() as capture:
        console.print(Group(*found.parts))
    return capture.get().splitlines()


class TestUnasked:
    def test_a_few_are_all_shown(self) -> None:
        found = overview(document(uploads(WHOLE), instances(WHOLE)), NO_WISH)
        assert (len(found.uploads), len(found.instances), found.notes) == (WHOLE, WHOLE, [])

    def test_of_many_those_that_need_somebody_are_shown_the_most_urgent_first(self) -> None:
        many = [*uploads(500), REJECTED, replace(LIVE, name="end.pfx", not_after=NOW + timedelta(days=1))]
        known = [*instances(30), *instances(1, failing=1, id="web-bad")[:1]]
        found = overview(document(many, known), NO_WISH)
        assert names(found) == ["bad.pfx", "end.pfx"]
        assert [each["id"] for each in found.instances] == ["web-bad"]
        assert found.notes == [
            "500 uploads left out that need nothing: `certcast status --all` shows them",
            "30 instances left out that need nothing: `certcast status --all` shows them",
        ]

    def test_where_all_is_well_one_line_says_it(self) -> None:
        found = overview(document(uploads(500), instances(30)), NO_WISH)
        assert [line for line in drawn(found) if line] == [
            "500 of 500 live on 3/3",
            "500 uploads left out that need nothing: `certcast status --all` shows them",
            "30 instances left out that need nothing: `certcast status --all` shows them",
        ]

    def test_where_much_is_wrong_there_is_an_end_to_it(self) -> None:
        found = overview(document([replace(REJECTED, name=f"{number}.pfx") for number in range(300)]), NO_WISH)
        assert len(found.uploads) == MOST_UNASKED
        assert found.notes[0].startswith("250 more uploads that need somebody: `certcast status --all` shows them")

    def test_when_one_ends_soon_its_line_says_so(self) -> None:
        soon = [replace(LIVE, name="end.pfx", not_after=NOW + timedelta(days=3, hours=1)), REJECTED]
        lines = [line.rstrip() for line in drawn(overview(document(soon), NO_WISH))]
        assert next(line for line in lines if "end.pfx" in line).endswith("Ends in 3 d: upload a renewal.")
        assert next(line for line in lines if "bad.pfx" in line).endswith("expired: It ended on 2029-12-31.")


class TestAsked:
    def test_what_was_found_is_counted(self) -> None:
        found = overview(document([*uploads(30), REJECTED]), Wish(asked=Asked(failed=True)))
        assert (names(found), found.notes) == (["bad.pfx"], ["1 of 31 uploads"])

    def test_a_limit_says_what_lies_beyond_it(self) -> None:
        found = overview(document(uploads(30)), Wish(asked=Asked(limit=2)))
        assert (len(found.uploads), found.notes) == (2, ["28 more of them beyond --limit 2"])

    def test_everything_is_all_uploads_and_all_instances(self) -> None:
        found = overview(document(uploads(300), instances(100)), Wish(asked=Asked(), everything=True))
        assert (len(found.uploads), len(found.instances), found.notes) == (300, 100, [])

    def test_the_instance_that_was_asked_for_is_shown(self) -> None:
        found = overview(document(uploads(3), instances(100)), Wish(asked=Asked(instance="web-7")))
        assert [each["id"] for each in found.instances] == ["web-7"]

    def test_an_instance_that_is_not_registered_is_said_to_be_so(self) -> None:
        found = overview(document(uploads(3), instances(2)), Wish(asked=Asked(instance="web-9\x1b[2J")))
        assert found.notes[0] == "no instance web-9\N{REPLACEMENT CHARACTER}[2J is registered"

    def test_rows_that_cannot_be_read_are_told_in_any_case(self) -> None:
        for wish in (NO_WISH, Wish(asked=Asked(failed=True))):
            assert (
                overview(document([], unreadable=2), wish).notes[-1].startswith("2 row(s) of the tables cannot be read")
            )


@pytest.mark.parametrize(
    ("records", "known", "colour"),
    [
        (uploads(3), instances(3), "bold green"),
        ([*uploads(3), REJECTED], instances(3), "bold red"),
        (uploads(3), instances(3, failing=1), "bold yellow"),
        ([replace(LIVE, not_after=NOW + timedelta(days=1))], instances(3), "bold yellow"),
        ([], instances(3), "bold yellow"),
    ],
)
def test_the_line_is_green_where_nothing_needs_somebody(
    records: Sequence[UploadRecord], known: Sequence[Versioned[InstanceRecord]], colour: str
) -> None:
    line = overview(document(records, known), NO_WISH).parts[0]
    assert str(getattr(line, "style", "")) == colour


def test_the_document_has_what_was_asked_for_and_a_summary_of_all() -> None:
    found = narrowed(document([*uploads(30), REJECTED], instances(2)), Asked(failed=True, limit=1))
    assert [upload["name"] for upload in found["uploads"]] == ["bad.pfx"]
    assert (found["total"], found["summary"]["uploads"], len(found["instances"])) == (1, 31, 2)
    assert found["summary"]["line"] == "30 of 31 live on 3/3; 1 rejected"


class TestOnAScreen:
    def frame(self, found: Overview, columns: int, lines: int) -> list[str]:
        console = Console(width=columns, height=lines, force_terminal=False)
        with console.capture() as capture:
            console.print(Screenful(found.parts), end="")
        return capture.get().splitlines()

    @pytest.mark.parametrize(("columns", "lines"), [(200, 60), (80, 24), (40, 10), (20, 5)])
    def test_it_is_no_higher_and_no_wider_and_begins_with_the_summary(self, columns: int, lines: int) -> None:
        many = [replace(REJECTED, name=f"{'long-name-' * 20}{number}.pfx") for number in range(100)]
        found = overview(document(many, instances(50, trouble="nginx " * 50)), NO_WISH)
        frame = self.frame(found, columns, lines)
        assert max(map(cell_len, frame)) <= columns
        assert frame[0].startswith("0 of 100 live")
        assert len(frame) <= max(lines, 12)  # a screen of five lines is cut by Rich, at its lower end

    def test_instances_have_their_share_and_more_where_uploads_leave_room(self) -> None:
        many = [replace(REJECTED, name=f"{number}.pfx") for number in range(100)]
        frame = self.frame(overview(document(many, instances(20)), NO_WISH), 120, 30)
        assert [line.strip().split()[0] for line in frame if "web-" in line][:2] == ["web-0", "web-1"]
        assert frame.count("... more than fits here") == 2
        frame = self.frame(overview(document(uploads(2), instances(20)), NO_WISH), 120, 30)
        assert len([line for line in frame if "web-" in line]) > 15

    def test_what_fits_is_whole(self) -> None:
        found = overview(document(uploads(2), instances(2)), NO_WISH)
        assert [line for line in self.frame(found, 120, 40) if line] == [line for line in drawn(found) if line]


def test_a_narrow_screen_leaves_out_what_is_told_least_often() -> None:
    found = overview(document([REJECTED, *uploads(2)], instances(2)), NO_WISH)
    wide, narrow = "\n".join(drawn(found, columns=200)), "\n".join(drawn(found, columns=60))
    for heading in ("hosts", "valid until", "role"):
        assert heading in wide
        assert heading not in narrow
    assert "expired" in narrow


@given(st.text(min_size=1, max_size=255), st.sampled_from([40, 80, 200]))
def test_no_name_steers_a_terminal_or_makes_a_line_too_wide(name: str, columns: int) -> None:
    nasty = replace(REJECTED, name=f"\x1b[2J\u202e{name}", hosts=(name,), reason=name)
    known = instances(1, trouble=name, target_kind=name, host=name)
    for line in drawn(overview(document([nasty], known), NO_WISH), columns=columns):
        assert line.isprintable()
        assert cell_len(line) <= columns


def test_five_hundred_uploads_are_chosen_and_drawn_in_a_fraction_of_a_second() -> None:
    many = document([*uploads(500), REJECTED], instances(100))

    def timed() -> float:
        began = time.process_time()
        drawn(overview(many, NO_WISH))
        return time.process_time() - began

    assert min(timed() for _ in range(3)) < 0.2


class TestOptions:
    def wish(self, *arguments: str) -> Wish:
        found: list[Wish] = []

        @click.command
        @choosing_options
        def command(**options: Any) -> int:
            found.append(wish_of(options))
            return 0

        command.main([*arguments], standalone_mode=False)
        return found[0]

    def test_none_is_no_wish(self) -> None:
        assert self.wish() == NO_WISH
        assert self.wish().is_for_what_needs_somebody

    def test_are_read(self) -> None:
        assert self.wish(
            "--failed", "--expiring", "14d", "--sort", "-expiry", "--limit", "5", "--status", "live,failed"
        ) == (
            Wish(
                asked=Asked(
                    failed=True,
                    expiring=timedelta(days=14),
                    sort="expiry",
                    descending=True,
                    limit=5,
                    statuses=frozenset({"live", "failed"}),
                )
            )
        )
        assert self.wish("--all") == Wish(asked=Asked(), everything=True)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--expiring", "soon"), "--expiring must be a length of time such as 14d, 12h or 30m"),
            (("--sort", "colour"), "--sort must be one of name, status,"),
            (("--limit", "0"), "--limit must be a whole number"),
            (("--status", "alive"), "--status 'alive' is none of received,"),
        ],
    )
    def test_with_a_mistake_are_refused(self, arguments: tuple[str, ...], said: str) -> None:
        with pytest.raises(click.UsageError, match=said):
            self.wish(*arguments)
