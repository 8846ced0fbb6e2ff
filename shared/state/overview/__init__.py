"""Many uploads at one look: whether all are served, which need somebody, and those that somebody asks for.

All of it works on the entries of the status document, which the command, the status API and the dashboard have alike.
"""

from __future__ import annotations

from shared.state.overview.asking import SORTS, Asked, Chosen, chosen, length_of
from shared.state.overview.attention import (
    ENDS_SOON,
    ends_within,
    has_waited,
    instance_needs_somebody,
    instant,
    needs_somebody,
    waits_long,
)
from shared.state.overview.summary import Summary

__all__ = [
    "ENDS_SOON",
    "SORTS",
    "Asked",
    "Chosen",
    "Summary",
    "chosen",
    "ends_within",
    "has_waited",
    "instance_needs_somebody",
    "instant",
    "length_of",
    "needs_somebody",
    "waits_long",
]
