"""What targets ask of a batch and of their bindings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instance_agent.targets.base import ApplyError, BindingChange, Install, InstalledBinding, Key, Remove
from instance_agent.targets.parts.bindings import Bindings, answering, installs_of
from tests.fakes.target import binding, bundle

CHANGES = st.builds(
    lambda host, name: Remove(host=host, port=443) if name is None else binding(host, name),
    st.sampled_from(["a.example.com", "b.example.com", "*.example.com"]),
    st.sampled_from([None, "old", "new"]),
)


@given(st.lists(CHANGES))
def test_bindings_hold_what_the_last_change_of_each_host_and_port_left(changes: list[BindingChange]) -> None:
    bound, expected = Bindings(), dict[Key, InstalledBinding]()
    for change in changes:
        bound.take_up([change])
        expected.pop(change.key, None)
        if isinstance(change, Install):
            expected[change.key] = change.bound
        assert dict(bound) == expected
        assert bound.owned(None) == frozenset(expected.values())
        asked = [change.key, ("unknown.example.com", 443)]
        assert bound.owned(asked) == frozenset(expected[key] for key in asked if key in expected)
    assert Bindings(expected.values()).owned(None) == bound.owned(None)


def test_a_change_the_server_can_never_take_is_named_with_the_reason() -> None:
    good, bad = binding("a.example.com"), binding("bad.example.com")
    changes: list[BindingChange] = [good, Remove(host="gone.example.com", port=443), bad]
    assert installs_of(changes, lambda _: None) == [good, bad]
    with pytest.raises(ApplyError, match="never") as caught:
        installs_of(changes, lambda change: "never" if change is bad else None)
    assert caught.value.culprit == bad.key


def test_the_binding_whose_certificate_was_seen_is_named() -> None:
    bound = [binding("a.example.com", "old").bound, binding("b.example.com", "new").bound]
    assert answering(bound, bundle("new").fingerprint_sha256) == (
        "the certificate bound for b.example.com:443 answered"
    )
    assert answering(bound, "00" * 32) is None
