"""Which server name a probe asks for."""

from hypothesis import given
from hypothesis import strategies as st

from instance_agent.installing.probe import ProbeError, name_to_probe
from shared.hostnames import DEFAULT_HOST, covers, normalise_host, wildcard_of

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
PARENTS = (
    st.lists(LABELS, min_size=2, max_size=6)
    .map(".".join)
    .filter(lambda name: len(name) <= 251 and not name.rpartition(".")[2].isdecimal())
)


def test_an_exact_host_is_asked_for_itself() -> None:
    assert name_to_probe("shop.example.com") == "shop.example.com"


def test_a_wildcard_is_asked_for_under_a_name_that_no_binding_has() -> None:
    assert str(name_to_probe("*.example.com")).startswith("certcast-probe-")
    assert name_to_probe("*.example.com") != name_to_probe("*.example.com")


def test_the_default_is_asked_for_without_a_name() -> None:
    assert name_to_probe(DEFAULT_HOST) is None


@given(PARENTS)
def test_the_name_for_a_wildcard_is_a_valid_host_which_it_covers(parent: str) -> None:
    name = name_to_probe(f"*.{parent}") or ""
    assert normalise_host(name) == name
    assert covers(f"*.{parent}", name)
    assert wildcard_of(name) == f"*.{parent}"


def test_a_failed_probe_may_do_better_later() -> None:
    assert ProbeError("127.0.0.1:443 did not accept a connection", reached=False).retriable
