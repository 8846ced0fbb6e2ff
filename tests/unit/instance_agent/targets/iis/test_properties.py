"""What holds for the IIS planner whatever sites, bindings and changes there are."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from instance_agent.targets.base import Remove
from instance_agent.targets.iis.bindings import EVERYTHING, Site
from instance_agent.targets.iis.catch_all import CatchAllPolicy
from instance_agent.targets.iis.gateway import AddBinding, ReplaceBinding
from instance_agent.targets.iis.plan import Bind, Circumstances, Plan
from instance_agent.targets.iis.planner import plan, scope_of
from instance_agent.targets.iis.tag import Mark, Tag, is_ours
from tests.fakes.iis.memory import MemoryIis

HOSTS = ["a.example.com", "b.example.com", "*.example.com"]
PORTS = [443, 8443]
SITES = ["Web", "Second"]
OURS = {
    "AA" * 20: Tag(marks=dict.fromkeys(HOSTS, Mark(generation=1))),
    "AB" * 20: Tag(marks={HOSTS[0]: Mark(generation=1)}),
}
THEIRS = ["01" * 20, "02" * 20, ""]
NEW = ["BA" * 20, "BB" * 20]

bindings = st.tuples(
    st.sampled_from(SITES),
    st.sampled_from(["*", "10.0.0.4", "[fe80::1]"]),
    st.sampled_from(PORTS),
    st.sampled_from([*HOSTS, "A.Example.com", "other.example.net", ""]),
    st.sampled_from([0, 1, 2, 3, 5, 32, 33]),
    st.sampled_from([*OURS, *THEIRS]),
)
keys = st.tuples(st.sampled_from(HOSTS), st.sampled_from(PORTS))
changes = st.dictionaries(
    keys, st.one_of(st.none(), st.tuples(st.sampled_from(NEW), st.sampled_from([None, *SITES]))), min_size=1
).map(
    lambda wanted: [
        Remove(host=host, port=port) if what is None else Bind(host=host, port=port, thumbprint=what[0], site=what[1])
        for (host, port), what in wanted.items()
    ]
)
policies = st.sampled_from(["keep", "remove", f"replace:{HOSTS[0]}", "replace:*.example.com"]).map(CatchAllPolicy.parse)


@st.composite
def machines(draw: st.DrawFn) -> MemoryIis:
    iis = MemoryIis()
    for number, name in enumerate(SITES):
        iis.add_site(name, site_id=number + 1)
        iis.add_binding(name, f"*:{80 + number}:", protocol="http", flags=0)
    for site, ip, port, host, flags, thumbprint in draw(st.lists(bindings, max_size=8)):
        information = f"{ip}:{port}:{host}"
        if all(row.information.lower() != information.lower() for row in iis.rows(site)):
            iis.add_binding(site, information, flags=flags, thumbprint=thumbprint)
    return iis


def read(iis: MemoryIis) -> tuple[Site, ...]:
    with iis.session() as session:
        return session.sites(EVERYTHING)


def decide(iis: MemoryIis, wanted: Sequence[Bind | Remove], policy: CatchAllPolicy) -> Plan:
    circumstances = Circumstances(store="My", tags=with_new(wanted), catch_all=policy)
    with iis.session() as session:
        return plan(session.sites(scope_of(wanted, policy)), wanted, circumstances)


def with_new(wanted: Sequence[Bind | Remove]) -> dict[str, Tag]:
    tags = dict(OURS)
    for change in wanted:
        if isinstance(change, Bind):
            tag = Tag(marks={change.host: Mark(generation=2)})
            tags[change.thumbprint] = tags.get(change.thumbprint, tag).widened(tag)
    return tags


def carry_out(iis: MemoryIis, decided: Plan) -> None:
    with iis.session() as session:
        session.sites(EVERYTHING)
        for operation in decided.operations:
            session.perform(operation)
        session.commit()


@given(machines(), changes, policies)
def test_planning_twice_changes_nothing(iis: MemoryIis, wanted: list[Bind | Remove], policy: CatchAllPolicy) -> None:
    carry_out(iis, decide(iis, wanted, policy))
    assert decide(iis, wanted, policy).operations == ()


@given(machines(), changes, policies)
def test_nothing_that_is_not_ours_is_touched(
    iis: MemoryIis, wanted: list[Bind | Remove], policy: CatchAllPolicy
) -> None:
    before = read(iis)
    decided = decide(iis, wanted, policy)
    named = {change.key for change in wanted if isinstance(change, Bind)}
    tags = with_new(wanted)
    touched = {
        (operation.site, operation.old.information)
        for operation in decided.operations
        if not isinstance(operation, AddBinding)
    }
    for site in before:
        for binding in site.bindings:
            if (site.name, binding.information) not in touched:
                continue
            is_catch_all = not binding.host and not binding.sni and policy.action != "keep"
            assert not binding.central
            assert (binding.host, binding.port) in named or is_ours(binding, tags) or is_catch_all
    carry_out(iis, decided)
    after = {site.name: {it.information: it for it in site.bindings} for site in read(iis)}
    shared = {change.key for change in wanted}
    for site in before:
        for binding in site.bindings:
            if (site.name, binding.information) not in touched and (binding.host, binding.port) not in shared:
                assert after[site.name][binding.information] == binding


@given(machines(), changes, policies)
def test_every_wanted_host_is_bound_once_and_every_unwanted_one_of_ours_is_gone(
    iis: MemoryIis, wanted: list[Bind | Remove], policy: CatchAllPolicy
) -> None:
    decided = decide(iis, wanted, policy)
    if decided.conflicts:
        assert decided.operations == ()
        assert {conflict.key for conflict in decided.conflicts} <= {it.key for it in wanted if isinstance(it, Bind)}
        return
    carry_out(iis, decided)
    found = [(site.name, binding) for site in read(iis) for binding in site.bindings]
    for change in wanted:
        here = [(site, it) for site, it in found if (it.host, it.port) == change.key and not it.central]
        if isinstance(change, Remove):
            assert not [it for _, it in here if is_ours(it, OURS)]
            continue
        assert {site for site, _ in here} == {change.site or SITES[0]}
        assert [it.information.lower() for _, it in here].count(f"*:{change.port}:{change.host}") == 1
        assert all(it.sni and it.thumbprint == change.thumbprint for _, it in here)


@given(machines(), changes, policies)
def test_no_record_that_a_remaining_binding_lives_on_is_deleted(
    iis: MemoryIis, wanted: list[Bind | Remove], policy: CatchAllPolicy
) -> None:
    alive = {binding.endpoint for site in read(iis) for binding in site.bindings if binding.thumbprint}
    carry_out(iis, decide(iis, wanted, policy))
    for site in read(iis):
        for binding in site.bindings:
            if binding.endpoint in alive:
                assert binding.thumbprint, binding


@given(machines(), changes, policies)
def test_flags_are_only_ever_added_to(iis: MemoryIis, wanted: list[Bind | Remove], policy: CatchAllPolicy) -> None:
    for operation in decide(iis, wanted, policy).operations:
        if isinstance(operation, ReplaceBinding):
            assert operation.flags in {operation.old.flags, operation.old.flags | 1}
