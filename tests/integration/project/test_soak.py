"""A soak of seconds: everything comes right, and whatever would not is found."""

from dataclasses import replace

import pytest

from tests.rigs.programs import needs
from tests.soak.judging import faults
from tests.soak.plan import ANCHOR, ANCHOR_HOST, Action, ByHand, KillAgent, Plan, Put, Remove, RestartServer
from tests.soak.running import Soak
from tests.soak.stage import Options, Stage

SHORT = Options(seconds=8, seed=1, mean_s=0.1, settle_s=60, answers_lost=0)
SHOP = "t1.soak.test"


class Script(Plan):
    """A plan that is written down; it ends by doing the same upload again."""

    def __init__(self, *actions: Action) -> None:
        super().__init__(1, instances=3, defaults=False)
        self._written = list(actions)

    def next(self) -> Action:
        return self._written.pop(0) if self._written else Put(name="t2.pfx", hosts=("www.t2.soak.test",), key="ec")

    def pause_s(self) -> float:
        return 20.0 if self._written and isinstance(self._written[0], ByHand) else 5.0


class Spoiled(Soak):
    """A soak whose books are wrong in the end."""

    async def _played(self, stage: Stage) -> None:
        await super()._played(stage)
        self.report.wrong += ["as it is:", *[sentence async for sentence in faults(stage)], "with wrong books:"]
        model = stage.model
        model.uploads[ANCHOR] = replace(model.uploads[ANCHOR], fingerprint="ab" * 32)
        del model.uploads["t2.pfx"]
        self.report.wrong += [sentence async for sentence in faults(stage)]


@needs("nginx", "haproxy", "caddy", "wrk")
@pytest.mark.timeout(120)
async def test_everything_comes_right_and_what_would_not_is_found() -> None:
    script = Script(
        Put(name="t1.pfx", hosts=(f"*.{SHOP}", SHOP), key="rsa"),
        Put(name="shop.pfx", hosts=(f"shop.{SHOP}",), key="ec", named=True),
        RestartServer(instance=1, killed=True),
        KillAgent(instance=2),
        Remove(name="shop.pfx"),
        ByHand(instance=0, host=ANCHOR_HOST, how="replaced"),
    )
    report = await Spoiled(SHORT, script).run()
    at = report.wrong.index("with wrong books:")
    assert report.wrong[:at] == ["as it is:"]
    told = " ".join(report.wrong[at:])
    for target in ("nginx", "haproxy", "caddy"):
        assert f"({target}) shows " in told
    assert f"for {ANCHOR_HOST}, and must show abababababab" in told
    assert f"upload {ANCHOR}: told to be live 3/3" in told
    assert "it is live with abababababab" in told
    assert "upload t2.pfx is removed and still listed" in told
    assert "instance agent-0 serves " in told
    assert report.done["renewals"] > 0
    assert {what: len(took) for what, took in report.took_s.items()} == {"server restarts": 1, "agents killed": 1}
    [drift] = report.drifts
    assert drift.right is not None
    assert drift.found is not None
    assert sum(session.requests for session in report.calm) > 100
