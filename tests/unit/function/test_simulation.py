"""The whole of certcast under everything that may happen, in any order: in the end each host has its certificate.

`CERTCAST_TEST_EFFORT=50` tries longer, `CERTCAST_TEST_SEED` repeats a run; a failure prints the shortest way to it.
"""

from random import Random

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from shared.binding import ANY_ROLE
from tests.rigs.effort import EFFORT, SEED, examples
from tests.rigs.scenes import PASSWORD
from tests.rigs.simulation import Certificate, Simulation

pytestmark = pytest.mark.timeout(round(180 * max(1.0, EFFORT)))

HOSTS = ("a.example.com", "b.example.com", "c.example.com")
NAMES = st.sampled_from(["x.pfx", "y.pfx", "folder/z.pfx"])
NUMBERS = st.integers(0, 7)
SOME_HOSTS = st.sampled_from([HOSTS, HOSTS[:2], HOSTS[:1], HOSTS[1:], HOSTS[2:]])
CERTIFICATES = st.builds(
    Certificate,
    hosts=SOME_HOSTS,
    day=st.sampled_from([-20, -10, -5, -1, 0.05]),
    serial=st.integers(0, 1),
    ends_at=st.sampled_from([None, None, None, None, 20, 30]),
)
METADATA = st.builds(
    lambda password, hosts, role: (
        ({"CertificatePassword": password} if password else {})
        | ({"HostHeader": ",".join(hosts)} if hosts else {})
        | ({"Role": role} if role else {})
    ),
    st.sampled_from([PASSWORD] * 6 + ["wrong", None]),
    st.one_of(st.none(), st.none(), st.none(), SOME_HOSTS),
    st.sampled_from([None] * 5 + ["web"]),
)
EDITS = st.one_of(
    SOME_HOSTS.map(lambda hosts: {"HostHeader": ",".join(hosts)}),
    st.sampled_from([{"Role": "web"}, {"Role": None}, {"SiteName": "shop"}, {"note": "seen"}]),
    st.sampled_from([{"CertificatePassword": PASSWORD}, {"CertificatePassword": "wrong"}, {"certcast_bundle": None}]),
)
Script = list[tuple[int, int]]
SCRIPTS = st.integers(0, 2**16).map(
    lambda seed: [
        (which.randrange(8), which.choice((1, 2, 3, 5, 8, 13, 30)))
        for which in [Random(seed)]  # noqa: S311 - no secret
        for _ in range(8)
    ]
)
"""One number stands for a whole script: Hypothesis gives each example so many choices and no more."""
REQUESTS = st.sampled_from(
    [
        *("uploads get", "uploads replace", "bindings get", "bindings replace", "instances query"),
        *("installations replace", "queue send", "queue receive", "queue done", "bundle open", "bundle seal"),
        *("blob version", "blob download", "blob set_metadata", "blob set_tags", "history put", "topic publish"),
    ]
)


UPLOADS = st.tuples(st.just("upload"), NAMES, CERTIFICATES, METADATA)
ACTIONS = st.one_of(UPLOADS, UPLOADS, st.tuples(st.just("edit"), NAMES, EDITS), st.tuples(st.just("delete"), NAMES))
DELIVERIES = st.lists(st.tuples(NUMBERS, st.booleans()), max_size=2)
MISHAPS = st.one_of(
    *(
        st.tuples(st.just(what), NUMBERS)
        for what in ("lose_event", "kill_run", "kill_run", "kill_agent", "stop_agent", "toggle_server")
    ),
    st.tuples(st.just("lose_answers"), st.integers(1, 3)),
    st.tuples(st.just("fail_requests"), REQUESTS, st.integers(1, 3)),
)


STEPS_AT_LEAST = 13_000
"""Of usual effort. Fewer would mean that the processes hardly ever get to run."""


@seed(SEED)
class Platform(RuleBasedStateMachine):
    """Rules are what may happen; whatever has, the truth must hold when the dust has settled.

    There are few rules, each for many things: Hypothesis leaves some out of every example, and a platform without
    uploads has little to show.
    """

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation({"web0": "web", "api0": "api", "any0": ANY_ROLE})

    @initialize(started=st.integers(1, 3), uploads=st.lists(UPLOADS, min_size=1, max_size=3), quietly=st.booleans())
    def begin(self, started: int, uploads: list[tuple[str, ...]], *, quietly: bool) -> None:
        for number in range(started):
            self.simulation.start_agent(number)
        self.simulation.let_pass(3)
        for what, *arguments in uploads:
            getattr(self.simulation, what)(*arguments)
        if quietly:
            self.simulation.deliver_all()
            self.simulation.let_pass(5)
            self.simulation.poll()
            self.simulation.let_pass(5)

    @rule(action=ACTIONS, script=SCRIPTS)
    def an_uploader_acts(self, action: tuple[str, ...], script: Script) -> None:
        what, *arguments = action
        getattr(self.simulation, what)(*arguments)
        self.simulation.play(script[:2])

    @rule(deliveries=DELIVERIES, script=SCRIPTS)
    def the_function_works(self, deliveries: list[tuple[int, bool]], script: Script) -> None:
        for which, keep in deliveries:
            self.simulation.deliver(which, keep=keep)
        self.simulation.poll()
        self.simulation.play(script)

    @rule(mishap=MISHAPS, script=SCRIPTS)
    def something_goes_wrong(self, mishap: tuple[str, ...], script: Script) -> None:
        what, *arguments = mishap
        getattr(self.simulation, what)(*arguments)
        self.simulation.play(script[:2])

    @rule(which=NUMBERS)
    def an_instance_starts(self, which: int) -> None:
        self.simulation.start_agent(which)

    @rule(script=SCRIPTS)
    def the_function_sweeps(self, script: Script) -> None:
        self.simulation.start_sweep()
        self.simulation.play(script)

    @rule(seconds=st.sampled_from([1, 5, 40, 900]))
    def time_passes(self, seconds: int) -> None:
        self.simulation.let_pass(seconds)

    def teardown(self) -> None:
        try:
            Platform.steps += self.simulation.conductor.steps
            self.simulation.settle_down()
            self.simulation.truth().hold()
        finally:
            self.simulation.close()


class TestPlatform(Platform.TestCase):  # type: ignore[misc,valid-type]  # Hypothesis makes the class
    """Many platforms, each another one."""

    settings = settings(
        max_examples=examples(40),
        stateful_step_count=50,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

    def runTest(self) -> None:  # noqa: N802 - unittest's name
        Platform.steps = 0
        super().runTest()
        print(f"{Platform.steps} steps of processes, seed {SEED}")  # noqa: T201 - shown by pytest -rP
        assert Platform.steps > STEPS_AT_LEAST * min(1.0, EFFORT)
