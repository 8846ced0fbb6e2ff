"""What passes between the agent and its workers comes out as it went in."""

from __future__ import annotations

import json
import os

import pytest

from instance_agent.targets.base import ApplyError, Install, Remove, ServerUnavailableError
from instance_agent.targets.embedded import wire
from instance_agent.targets.embedded.listeners import Serving
from instance_agent.targets.embedded.ports import ListenerError
from shared.bundle import bundle_id
from shared.errors import CertcastError, ConfigurationError, UnavailableError
from tests.rigs.certificates import authority, self_signed


def over(message: wire.Message) -> wire.Message:
    """The message as the other end reads it."""
    read: wire.Message = json.loads(json.dumps(message))
    return read


def test_changes_arrive_with_their_keys_and_chains_and_a_shared_bundle_is_sent_once() -> None:
    shared, own = authority().intermediate().issue("a.example", "b.example").bundle(), self_signed("c.example").bundle()
    installs = [
        Install(host=host, port=port, bundle_id=bundle_id(bundle, os.urandom(8)), bundle=bundle)
        for host, port, bundle in (("a.example", 443, shared), ("b.example", 443, shared), ("c.example", 8443, own))
    ]
    message = over(wire.told_changes([*installs, Remove(host="d.example", port=443)]))
    assert len(message["keys"]) == 2
    removal, *arrived = wire.understood_changes(message)
    assert removal == Remove(host="d.example", port=443)
    assert [each.key for each in arrived] == [each.key for each in installs]
    for sent, got in zip(installs, arrived, strict=True):
        assert isinstance(got, Install)
        assert got.bundle.to_pem() == sent.bundle.to_pem()


def test_what_to_serve_arrives_whole() -> None:
    serving = Serving(
        address="::1",
        port_offset=8000,
        fallback=self_signed("fallback.example").bundle(),
        max_contexts=7,
        max_connections=8,
        upstream="http://app:8080",
        idle_s=9.5,
        shares_ports=True,
    )
    arrived = wire.understood_serving(over(wire.told_serving(serving)))
    assert arrived == serving
    assert arrived.fallback.key_pem() == serving.fallback.key_pem()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ListenerError("taken", culprit=("a.example", 444)), ListenerError),
        (ApplyError("weak", culprit=("a.example", 443)), ApplyError),
        (ApplyError("somehow"), ApplyError),
        (ServerUnavailableError("later"), ServerUnavailableError),
        (ConfigurationError("set it"), ConfigurationError),
        (UnavailableError("any other"), ServerUnavailableError),
    ],
)
def test_an_error_arrives_as_what_it_was_with_its_culprit(error: CertcastError, kind: type[CertcastError]) -> None:
    arrived = wire.understood_trouble(over(wire.told_trouble(error)))
    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert getattr(arrived, "culprit", None) == getattr(error, "culprit", None)


def test_an_answer_without_trouble_is_none() -> None:
    assert wire.understood_trouble({"digest": "x"}) is None


def test_a_digest_is_that_of_what_is_served_in_whatever_order() -> None:
    one, other = ("a.example", 443, "aa"), ("b.example", 443, "bb")
    assert wire.digest([one, other]) == wire.digest([other, one])
    assert len({wire.digest(each) for each in ([], [one], [one, other], [("a.example", 443, "bb"), other])}) == 4
