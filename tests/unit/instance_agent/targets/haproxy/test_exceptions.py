"""What a wildcard's entry leaves out, decided without a server, and what no entry has room for."""

from pathlib import Path

import pytest

from instance_agent.targets.base import ApplyError, BindingChange, Install, Key, Remove
from instance_agent.targets.haproxy.disk import Disk
from instance_agent.targets.haproxy.exceptions import LONGEST_LINE, MOST, planned, require_room
from instance_agent.targets.haproxy.mirror import Mirror
from instance_agent.targets.haproxy.neighbours import Neighbours
from instance_agent.targets.haproxy.session import Session
from instance_agent.targets.parts.bindings import Bindings
from tests.rigs.certificates import KeyKind
from tests.rigs.targets import bind, root

WILD: Key = ("*.neg.test", 443)


def of(host: str, key: KeyKind) -> Install:
    return bind(root().issue(host, key=key), host, 443)


def mirror(**types: str) -> Mirror:
    """A wildcard with an EC key, and hosts under it by the types of theirs."""
    found = Mirror(
        process=("1", "1"),
        ports=frozenset({443}),
        defaults=frozenset(),
        bound=Bindings(),
        neighbours=Neighbours(),
        by_hand=Neighbours(),
        excepted={},
    )
    found.neighbours.put(WILD, "EC")
    for label, key_type in types.items():
        found.neighbours.put((f"{label}.neg.test", 443), key_type)
    return found


def test_hosts_of_the_other_type_are_left_out_and_others_never() -> None:
    there = mirror(a="RSA", b="EC")
    assert planned(there, [of("c.neg.test", "rsa")]) == {WILD: {"a.neg.test", "c.neg.test"}}
    assert planned(there, [of("b.neg.test", "rsa"), Remove(host="a.neg.test", port=443)]) == {WILD: {"b.neg.test"}}
    assert planned(there, [of(WILD[0], "rsa")]) == {WILD: {"b.neg.test"}}
    assert planned(there, [Remove(host=WILD[0], port=443), of("c.neg.test", "rsa")]) == {}
    others = [of("d.c.neg.test", "rsa"), of("neg.test", "rsa"), of("x.other.test", "rsa")]
    assert planned(there, [*others, bind(root().issue("e.neg.test", key="rsa"), "e.neg.test", 444)]) == {}


def test_what_was_taken_up_is_what_is_planned_upon() -> None:
    there = mirror(a="RSA")
    due: list[BindingChange] = [of("c.neg.test", "rsa"), Remove(host="a.neg.test", port=443)]
    plan = planned(there, due)
    there.take_up(due, plan)
    assert there.excepted == {WILD: frozenset({"c.neg.test"})}
    assert planned(there, [Remove(host="c.neg.test", port=443)]) == {WILD: frozenset()}


def test_an_administrators_host_is_left_out_though_ours_of_that_name_goes() -> None:
    there = mirror(a="RSA")
    there.by_hand.put(("a.neg.test", 443), "RSA")
    assert planned(there, [Remove(host="a.neg.test", port=443)]) == {WILD: {"a.neg.test"}}


@pytest.mark.parametrize(("hosts", "label"), [(MOST, "h{}"), (LONGEST_LINE // 64, "x" * 50 + "{:04}")])
async def test_no_line_is_written_that_haproxy_does_not_read(tmp_path: Path, hosts: int, label: str) -> None:
    """HAProxy does not start on one, so neither file nor socket is touched: there is nothing behind this session."""
    there = mirror(**{label.format(number): "RSA" for number in range(hosts)})
    due = [of("one-more.neg.test", "rsa"), of("other.test", "ec")]
    with pytest.raises(ApplyError, match=f"{MOST} hosts and {LONGEST_LINE} characters") as caught:
        await require_room(Session(tmp_path / "none"), Disk(tmp_path), there, due, planned(there, due))
    assert caught.value.culprit == ("one-more.neg.test", 443)
