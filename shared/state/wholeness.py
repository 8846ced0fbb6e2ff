"""Whether the tables held all that they should, as a sweep found it and tells the agents.

It is sealed beside the bundles, which agents may read and only the Function may write, and which outlives the tables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.codec import from_document, to_document
from shared.errors import BrokenBundleError, CertcastError
from shared.phrasing import logger

if TYPE_CHECKING:
    from shared.ports import BundleVault

log = logger(__name__)

WHOLENESS = "state/tables"
"""Where it is sealed; no bundle's id."""
CLOCKS_MAY_DIFFER = timedelta(seconds=10)
"""What the clocks of Function and agents may differ by: both follow the storage service's."""
REBUILT_WITHIN = timedelta(minutes=15)
"""How long a word that rows are lacking keeps a fresh instance from being ready: one upload must not do so for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wholeness:
    """What one sweep found.

    Attributes:
        at: When it began to read.
        whole: Whether every upload had its row, and every row its claims; else rows of uploads are lost.
    """

    at: datetime
    whole: bool

    def is_since(self, moment: datetime) -> bool:
        """Whether the tables were found whole by a sweep that began after this."""
        return self.whole and self.at - moment > CLOCKS_MAY_DIFFER

    def is_rebuilding(self, now: datetime) -> bool:
        """Whether rows were found lost a short while ago, and have yet to be found whole again."""
        return not self.whole and now - self.at < REBUILT_WITHIN


async def tell_wholeness(bundles: BundleVault, found: Wholeness) -> None:
    """Seal what was found."""
    await bundles.seal(WHOLENESS, json.dumps(to_document(found)).encode())


async def wholeness(bundles: BundleVault) -> Wholeness | None:
    """What was found last; None where that is not known: no sweep has told it, or it cannot be read now."""
    try:
        text = await bundles.open(WHOLENESS)
        return from_document(Wholeness, json.loads(text), broken=BrokenBundleError)
    except (CertcastError, ValueError) as error:
        log.debug("whether the tables are whole is not known: %s", error)
        return None
