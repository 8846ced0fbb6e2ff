"""What one sweep did, and doing one thing of many in it, so that its failure is its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from shared.errors import BusyError, CertcastError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")

log = logger(__name__)


@dataclass(slots=True)
class SweepReport:
    """What one sweep did.

    Attributes:
        looked_at: Uploads that were looked at again.
        settled: Uploads whose status was derived again.
        warned: Uploads whose end was warned of.
        reaped: Instances taken for scaled in.
        forgotten: Rows and bundles deleted because nothing needs them any more.
        problems: What could not be done; the next sweep tries again.
        touched: Uploads that a look was begun at: what was read of them before is not so any more.
    """

    looked_at: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    reaped: list[str] = field(default_factory=list)
    forgotten: int = 0
    problems: list[str] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)

    async def attempt(self, what: str, work: Awaitable[T]) -> T | None:
        """Do one thing of many, whose failure is reported and stops nothing else; None when it failed.

        Args:
            what: Names it in the report and the log.
            work: What to do.
        """
        try:
            return await work
        except BusyError as error:
            log.info("sweep: %s: %s", what, error)
        except CertcastError as error:
            self.problems.append(f"{what}: {error}")
            log.warning("sweep: %s: %s; the next sweep tries again", what, error)
        except Exception as error:
            self.problems.append(f"{what}: {type(error).__name__}")
            log.exception("sweep: %s: unexpected trouble; the next sweep tries again", what)
        return None
