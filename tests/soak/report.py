"""What came of a soak, as a document and as the tables of docs/reliability.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from tests.soak.drifts import Drift
from tests.soak.load import Session


@dataclass(slots=True, kw_only=True)
class Report:
    """All of it.

    Attributes:
        minutes: How long something was done.
        seed: What decided it.
        done: How often what was done.
        took_s: How long it took, by what was waited for.
        live_s: Seconds to live of uploads.
        settled_s: How long everything took to come right at the end.
        drifts: What was changed by hand.
        calm: Sessions of load while its server was left alone.
        disturbed: The other ones.
        refused: Requests to the storage account that were refused or not answered.
        exceptions, errors: Stack traces and errors that certcast's programs printed, by program.
        memory: MB at the beginning and at the end of a life, by program.
        wrong: What is wrong, in sentences.
        lines: Lines of the logs that may tell why.
    """

    minutes: float
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    took_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    live_s: list[float] = field(default_factory=list)
    settled_s: float = 0.0
    drifts: Sequence[Drift] = ()
    calm: Sequence[Session] = ()
    disturbed: Sequence[Session] = ()
    refused: Mapping[str, int] = field(default_factory=dict)
    exceptions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    memory: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    lines: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `--json`."""
        return {
            "ok": not self.wrong,
            "minutes": self.minutes,
            "seed": self.seed,
            "rows": [dict(zip(_COLUMNS, row, strict=True)) for row in self.rows()],
            "wrong": self.wrong,
            "lines": list(self.lines),
        }

    def markdown(self) -> str:
        """The table."""
        rows = [_COLUMNS, ("---", "---:", "---:", "---:", "---:"), *self.rows()]
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """The rows of the table: what, how many, and seconds (of memory: MB)."""
        left_out = sum(count for what, count in self.done.items() if "left out" in what)
        return [
            *(_row(what, self.done[what]) for what in ("uploads of new names", "renewals", "removals")),
            _row("… of them seen live, from upload to proved on every instance", len(self.live_s), self.live_s),
            *(row for target in dict.fromkeys(each.target for each in self.drifts) for row in self._by_hand(target)),
            *(_row(f"{what}, until there again", self.done[what], self.took_s[what]) for what in _AWAY),
            _row("left out, as it would have told nothing at that moment", left_out),
            _row("requests to the storage account refused, or not answered", sum(self.refused.values())),
            *self._load(),
            _row("until everything was right at the end", 1, [self.settled_s]),
            _row("errors in the logs of certcast's programs", sum(self.errors.values())),
            _row("stack traces there", sum(self.exceptions.values())),
            *(
                (f"memory of {name}, MB: at first, at last", "", f"{first:.0f}", "", f"{last:.0f}")
                for name, (first, last) in sorted(self.memory.items())
            ),
            _row("what was wrong", len(self.wrong)),
        ]

    def _by_hand(self, target: str) -> list[tuple[str, str, str, str, str]]:
        mine = [each for each in self.drifts if each.target == target]
        alone = [each for each in mine if not each.overtaken]
        found = [each.found - each.made for each in alone if each.found is not None]
        right = [each.right - each.made for each in alone if each.right is not None]
        stays = any(each.stays for each in mine)
        return [
            _row(f"changes by hand on {target}", len(mine)),
            _row("… overtaken by something else that was done", len(mine) - len(alone)),
            _row("… found", len(found), found),
            _row("… told, and right once taken back" if stays else "… put right", len(right), right),
        ]

    def _load(self) -> list[tuple[str, str, str, str, str]]:
        calm, disturbed = (
            sum(sum(each.errors.values()) for each in sessions) for sessions in (self.calm, self.disturbed)
        )
        return [
            _row("requests answered by the servers", sum(each.requests for each in (*self.calm, *self.disturbed))),
            _row("… failed while their server restarts, is changed by hand, or its agent is killed", disturbed),
            _row("… failed at any other time", calm),
        ]


_COLUMNS = ("what", "number", "p50 s", "p95 s", "longest s")
_AWAY = ("server restarts", "agents killed")


def _row(what: str, number: int, seconds: Sequence[float] = ()) -> tuple[str, str, str, str, str]:
    if not seconds:
        return (what, f"{number:,}", "", "", "")
    parts = quantiles(seconds, n=20, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 19
    return (what, f"{number:,}", f"{parts[9]:.1f}", f"{parts[18]:.1f}", f"{max(seconds):.1f}")
