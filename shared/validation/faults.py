"""What is wrong with a path that does not verify, in words, and the cure for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.bundle import MAX_INTERMEDIATES
from shared.phrasing import listed, shown
from shared.verdict import VerdictCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.bundle.link import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a path does not verify.

    Attributes:
        says: A clause that names the certificate.
        cure: A sentence that says what to do about this.
        code: The verdict.
    """

    says: str
    cure: str
    code: VerdictCode = VerdictCode.UNTRUSTED_CHAIN


TOO_MANY = Fault(
    says="the file has more certificates that could belong to it than are tried",
    cure="Export the certificate again with its own intermediates alone.",
)
TOO_LONG = (
    f"has more than {MAX_INTERMEDIATES} intermediates, which is longer than any browser follows. Have the certificate "
    "issued by an authority that is nearer to its root."
)


def called(path: Sequence[Link], depth: int) -> str:
    """The certificate by its place and name."""
    kind = "" if depth == 0 else "its root " if is_root(path, depth) else "its intermediate "
    return f"{kind}'{shown(path[depth].subject)}'"


def what(path: Sequence[Link], depth: int) -> str:
    """The certificate by its place alone, as what is to be issued again."""
    return "the certificate" if depth == 0 else "the root" if is_root(path, depth) else "that intermediate"


def is_root(path: Sequence[Link], depth: int) -> bool:
    """Whether it ends the path and names itself as its issuer."""
    return depth == len(path) - 1 and path[depth].is_self_issued


def malformed(path: Sequence[Link], depth: int, flaws: Sequence[str]) -> Fault:
    """Say that clients cannot be expected to read a certificate.

    Args:
        path: From the leaf on.
        depth: The certificate.
        flaws: What is malformed, as clauses.
    """
    return Fault(
        says=f"{called(path, depth)} is malformed, so that not every client reads it: {listed(flaws, '; ')}",
        cure=f"Have {what(path, depth)} issued again, by an authority or a tool of today.",
        code=VerdictCode.MALFORMED_CERTIFICATE,
    )
