"""The answer at the top of the fleet page: whether all is served, in one sentence, and the totals that explain it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.function.dashboard.views import tone_of, words
from shared.state.overview.attention import ENDS_SOON

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.state.overview import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """Whether all is served, in one sentence.

    Attributes:
        tone: `good`, `warn`, `bad`, `busy` or `idle`.
        text: The sentence, without a full stop.
    """

    tone: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """One of the totals, which links to what it counts.

    Attributes:
        count: How many.
        words: Of what.
        tone: As that of a headline.
        query: What the fleet page is asked for then; None where it is about instances.
    """

    count: int
    words: str
    tone: str
    query: Mapping[str, str] | None


def headline(summary: Summary, *, complete: bool) -> Headline:
    """Answer whether all uploads are served everywhere.

    Args:
        summary: What they come to.
        complete: Whether these are all uploads.
    """
    lacking = summary.wanted - summary.served
    if not complete:
        return Headline(tone="busy", text="Not all uploads have been read yet")
    if not summary.uploads:
        return Headline(tone="idle", text="There are no uploads yet")
    if not summary.wanted:
        return Headline(tone="idle", text="Nothing is to be served now")
    if lacking:
        verb = "is" if lacking == 1 else "are"
        tone = "bad" if summary.by_status.get("rejected") or summary.by_status.get("failed") else "warn"
        return Headline(
            tone=tone, text=f"{lacking:,} of {_uploads(summary.wanted)} {verb} not served on every instance"
        )
    if summary.ended:
        verb = "has" if summary.ended == 1 else "have"
        return Headline(tone="bad", text=f"{summary.ended:,} of {_uploads(summary.wanted)} {verb} ended")
    troubled = summary.silent or summary.troubled or summary.failing
    all_of = "The one upload is" if summary.wanted == 1 else f"All {_uploads(summary.wanted)} are"
    which = " that runs" if summary.running < summary.instances else ""
    which = " that is ready" if summary.starting else which
    tone = "warn" if troubled else "busy" if summary.starting else "good"
    return Headline(tone=tone, text=f"{all_of} served on every instance{which}")


def _uploads(count: int) -> str:
    return "1 upload" if count == 1 else f"{count:,} uploads"


def totals(summary: Summary) -> Iterator[Total]:
    """What there is, the whole first, then what needs somebody."""
    yield Total(count=summary.uploads, words="upload" if summary.uploads == 1 else "uploads", tone="", query={})
    for status, count in sorted(summary.by_status.items(), key=lambda each: -each[1]):
        yield Total(count=count, words=words(status), tone=tone_of(status), query={"status": status})
    if summary.ended:
        yield Total(count=summary.ended, words="ended", tone="bad", query={"expiring": "0d"})
    if summary.ending:
        soon = {"expiring": f"{ENDS_SOON.days}d"}
        yield Total(count=summary.ending, words=f"end within {ENDS_SOON.days} days", tone="warn", query=soon)
    yield Total(count=summary.running, words=f"of {summary.instances:,} instances run", tone="", query=None)
    for names, said, tone in (
        (summary.silent, "silent", "bad"),
        (summary.troubled, "in trouble", "bad"),
        (summary.failing, "failing", "bad"),
        (summary.starting, "not ready yet", "busy"),
    ):
        if names:
            yield Total(count=len(names), words=said, tone=tone, query=None)
