"""Which name of a certificate an authority above it may not issue for; OpenSSL tells only that there is one."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509

from shared.phrasing import listed, shown
from shared.validation.chain import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.bundle.link import Link

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """A name that breaks a constraint.

    Attributes:
        by: Where in the path the authority is whose constraint it is.
        rule: A verb and what it is about: what the constraints permit or exclude.
        name: The name, to be shown.
    """

    by: int
    rule: str
    name: str


def extension(link: Link, kind: type[_Kind]) -> _Kind | None:
    """One extension of a certificate, where it has it and it can be read."""
    try:
        return link.view.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError, TypeError):
        return None


def outside(path: Sequence[Link], depth: int) -> Outside | None:
    """The name that breaks a constraint (RFC 5280 section 4.2.1.10); None where it is of a kind not looked at here.

    Args:
        path: From the leaf on, each followed by its issuer.
        depth: The certificate in question.
    """
    for by in range(len(path) - 1, depth, -1):
        constraints = extension(path[by], x509.NameConstraints)
        if constraints is None:
            continue
        for name in _names(path[depth]):
            permitted = [one for one in constraints.permitted_subtrees or () if type(one) is type(name)]
            if permitted and not any(_within(name, one) for one in permitted):
                return Outside(
                    by=by, rule=f"permit only {listed([_shown(one) for one in permitted])}", name=_shown(name)
                )
            for excluded in constraints.excluded_subtrees or ():
                if _within(name, excluded):
                    return Outside(by=by, rule=f"exclude {_shown(excluded)}", name=_shown(name))
    return None


def _names(link: Link) -> Iterator[x509.GeneralName]:
    yield from extension(link, x509.SubjectAlternativeName) or ()
    if link.view.subject.rdns:
        yield x509.DirectoryName(link.view.subject)


def _within(name: x509.GeneralName, constraint: x509.GeneralName) -> bool:
    match name, constraint:
        case x509.DNSName(value=host), x509.DNSName(value=parent):
            parent = parent.lower().removeprefix(".")
            return not parent or f".{host.lower()}".endswith(f".{parent}")
        case x509.DirectoryName(value=subject), x509.DirectoryName(value=base):
            start = canonical(base)
            return canonical(subject)[: len(start)] == start
        case x509.IPAddress(value=address), x509.IPAddress(value=IPv4Network() | IPv6Network() as network):
            return address in network
        case x509.RFC822Name(value=mailbox), x509.RFC822Name(value=place):
            return mailbox.lower().endswith(place.lower() if "@" in place else f"@{place.lower().removeprefix('.')}")
    return False


def _shown(name: x509.GeneralName) -> str:
    match name:
        case x509.DirectoryName(value=subject):
            return f"the subject '{shown(subject.rfc4514_string())}'"
        case x509.OtherName() | x509.RegisteredID():
            return "a name of another kind"
    return f"'{shown(str(name.value))}'"
