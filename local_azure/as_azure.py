"""How much of Azure the local cloud has: what is always true there, and what happens now and then."""

from __future__ import annotations

from dataclasses import dataclass, field

from local_azure.eventgrid.delivery import Disorder
from local_azure.proxy.answers import LOST
from local_azure.proxy.faults import Faults, Rule
from local_azure.proxy.refusals import SERVER_BUSY
from local_azure.proxy.standing import DELETING_S, BeingDeleted, Limits

_CERTCAST = ("function", "agent-*")
_MORE = 1_000_003


@dataclass(frozen=True, slots=True, kw_only=True)
class AsAzure:
    """A cloud like Azure's. The Function and the agents meet what happens at random; clients do not.

    Attributes:
        deleting_s: How long a deleted queue, table or container refuses to be made again.
        busy: Which part of the requests is answered 503 ServerBusy.
        lost: Of the others, which part is carried out without an answer.
        seed: Of these chances; None for others each time.
        events: What becomes of events on their way.
    """

    deleting_s: float = DELETING_S
    busy: float = 0.01
    lost: float = 0.01
    seed: int | None = None
    events: Disorder = field(default_factory=lambda: Disorder(doubled=0.05, late=0.05, late_s=10.0))

    def faults(self) -> Faults:
        """The rules from the start on."""
        faults = Faults((BeingDeleted(self.deleting_s), Limits()))
        # Two chances with one seed would fall on the same requests.
        other = None if self.seed is None else self.seed + _MORE
        faults.add(Rule(answer=SERVER_BUSY, callers=_CERTCAST, share=self.busy, seed=self.seed))
        faults.add(Rule(answer=LOST, callers=_CERTCAST, share=self.lost, seed=other))
        return faults
