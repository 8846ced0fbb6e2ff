"""Prices and counts in bench/: what a request costs, and what is scaled."""

import importlib
from datetime import UTC, datetime
from typing import Any

import pytest

from local_azure.proxy.counting import Counted, Counts
from local_azure.proxy.operations import Service
from tests.rigs.deployment import ROOT


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "bench")
    return importlib.import_module("_prices")


def asked(service: Service, operation: str, count: int) -> Counts:
    kind = Counted(service=service, operation=operation, resource="x", caller="function", outcome="ok")
    return Counts({kind: count})


@pytest.mark.parametrize(
    ("service", "operation", "price"),
    [
        ("queue", "Get Messages", "queue"),
        ("queue", "Put Message", "queue"),
        ("table", "Query Entities", "table"),
        ("table", "Update Entity", "table"),
        ("blob", "Put Blob", "blob write"),
        ("blob", "List Blobs", "blob list"),
        ("blob", "Get Blob", "blob read"),
        ("blob", "Get Blob Properties", "blob other"),
        ("blob", "Set Blob Tags", "blob other"),
        ("blob", "Set Blob Metadata", "blob other"),
    ],
)
def test_ten_thousand_requests_cost_the_price_of_their_kind(
    prices: Any, service: Service, operation: str, price: str
) -> None:
    assert prices.usd(asked(service, operation, 10_000)) == pytest.approx(prices.PRICES[price].usd)


def test_deleting_a_blob_is_free_and_prices_add_up(prices: Any) -> None:
    assert prices.usd(asked("blob", "Delete Blob", 10_000)) == 0
    both = asked("queue", "Get Messages", 20_000) + asked("blob", "Put Blob", 10_000)
    assert prices.usd(both) == pytest.approx(2 * prices.PRICES["queue"].usd + prices.PRICES["blob write"].usd)


def test_every_price_has_a_day_a_place_and_a_source(prices: Any) -> None:
    for name, price in prices.PRICES.items():
        assert price.source.startswith("https://"), name
        assert price.day <= datetime.now(UTC).date(), name
        assert price.region in prices.told()
    assert {name.partition(" ")[0] for name in prices.PRICES} == {"blob", "queue", "table"}


def test_only_what_lies_within_a_time_counts_as_slept_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench")
    job = importlib.import_module("_minute_job").MinuteJob(None, None, wait_s=1.5)
    job.slept = [(0.0, 1.5), (2.0, 3.5), (4.0, 5.5)]
    assert job.slept_between(1.0, 4.5) == pytest.approx(0.5 + 1.5 + 0.5)
    assert job.slept_between(1.6, 1.9) == 0
