"""The table of the corpus in docs/verdicts.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.corpus import bags, certificates, chains, ciphers, guises, passwords, stores
from tests.corpus.row import Row
from tests.rigs.deployment import ROOT

PAGE = Path("docs/verdicts.md")
BEGIN, END = "<!-- corpus -->", "<!-- end of the corpus -->"
FAMILIES: dict[str, Sequence[Row]] = {
    "Encryption, MACs and iteration counts": ciphers.ROWS,
    "Passwords": passwords.ROWS,
    "Bags, orders and keys": bags.ROWS,
    "Files of other programs": stores.ROWS,
    "What is no PFX, or no longer one": guises.ROWS,
    "Dates, purposes, names and chains": chains.ROWS,
    "Certificates that break rules": certificates.ROWS,
}
_OPENS = {True: "opens", False: "does not open", None: "not asked"}


def table() -> str:
    """All families, a line for the inputs that have the same outcome."""
    total = sum(map(len, FAMILIES.values()))
    parts = [f"{total} inputs, each made and tried by `tests/corpus/`."]
    for title, rows in FAMILIES.items():
        parts += ["", f"### {title}", "", "| inputs | | OpenSSL | verdict | warning |", "|---|---|---|---|---|"]
        outcomes: dict[tuple[bool | None, tuple[str, ...], tuple[str, ...]], list[Row]] = {}
        for row in rows:
            outcomes.setdefault((row.openssl, row.verdicts, row.warnings), []).append(row)
        for (openssl, verdicts, warnings), alike in outcomes.items():
            cells = (_names(alike), str(len(alike)), _OPENS[openssl], _codes(verdicts) or "accepted", _codes(warnings))
            parts.append("| " + " | ".join(cells) + " |")
    return "\n".join(parts)


def _names(rows: Sequence[Row]) -> str:
    """The inputs' names; of several that begin alike, up to a colon, the beginning once."""
    begun: dict[str, dict[str, None]] = {}
    for row in rows:
        start, colon, rest = (row.group or row.name).partition(": ")
        begun.setdefault(start + colon, {})[rest] = None
    return "; ".join(_escaped(start + ", ".join(rests)) for start, rests in begun.items())


def _codes(codes: tuple[str, ...]) -> str:
    return ", ".join(f"`{code}`" for code in codes)


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def written() -> str:
    """What the page says."""
    text = (ROOT / PAGE).read_text("utf-8")
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def write() -> None:
    """Put the table into the page."""
    text = (ROOT / PAGE).read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    (ROOT / PAGE).write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}", "utf-8")
