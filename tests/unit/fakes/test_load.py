import pytest

from tests.rigs.load import tally

CLEAN = """\
Running 20m test @ https://www.shop.test:8443/
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.22ms    2.64ms  39.70ms   91.53%
    Req/Sec     5.77k     1.55k    8.57k    70.00%
  12345 requests in 5.03s, 1.79MB read
Requests/sec:   2454.27
Transfer/sec:    364.40KB
total: 12345 requests, 12345 answered, 0 unwelcome, errors: 0 connect, 0 read, 0 write, 0 timeout, 0 status
"""
FAILED = """\
  100 requests in 5.03s, 1.79MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
  Non-2xx or 3xx responses: 2
total: 100 requests, 100 answered, 2 unwelcome, errors: 0 connect, 3 read, 0 write, 1 timeout, 2 status
"""


def test_a_load_without_failures_is_told_as_such() -> None:
    told = tally(CLEAN, 0)
    assert (told.requests, told.failures) == (12345, {})


def test_every_kind_of_failure_is_told() -> None:
    assert tally(FAILED, 0).failures == {"unwelcome": 2, "read": 3, "timeout": 1, "status": 2}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("", 0),
        ("unable to connect to 127.0.0.1:8443 Connection refused", 1),
        (CLEAN, 1),
        (CLEAN.replace("total: 12345 requests", "total: 12346 requests"), 0),
        (CLEAN.replace("  12345 requests", "  12345 questions"), 0),
        (CLEAN.replace("12345 answered", "12344 answered"), 0),
        (CLEAN.partition("total: ")[0], 0),
        (CLEAN + "  Socket errors: connect 0, read 3, write 0, timeout 1\n", 0),
        (CLEAN + CLEAN, 0),
        (CLEAN.replace("12345", "0"), 0),
    ],
)
def test_what_cannot_be_a_clean_load_is_not_taken_for_one(said: str, code: int) -> None:
    with pytest.raises(AssertionError):
        tally(said, code)
