"""Certificates in a running HAProxy: put, bound, unbound, dropped, each step proved; files on the disk are not touched.

HAProxy has one certificate transaction for everybody, and it outlives the connection that began it: a `set` for one
file while another's is pending goes into that other one, and committing it then serves a wrong certificate. So every
reply is checked for the file it names, what is pending is compared with what was sent before it is committed, and what
is served is compared again after.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.haproxy.session import ConversationBrokenError, escaped
from shared.errors import CertcastError
from shared.phrasing import logger

if TYPE_CHECKING:
    from instance_agent.targets.haproxy.session import Identity, Session
    from shared.bundle import CertificateBundle

_ATTEMPTS = 12
_FOREIGN = re.compile(r"The ongoing transaction is about '(.+?)' but you are trying to ")
_UPDATED = re.compile(r"Transaction updated for certificate (.+)!")
_SERIAL = re.compile(r"^Serial: ([0-9A-F]+)$", re.MULTILINE)
_THUMBPRINT = re.compile(r"^SHA1 FingerPrint: ([0-9A-F]{40})$", re.MULTILINE)
_ENTRY = re.compile(r"^(?P<file>.+):(?P<line>\d+)(?: \[[^\]]*\])?(?P<names>(?: \S+)*)$")

log = logger(__name__)


class RefusedError(CertcastError):
    """HAProxy will not do what was asked; the text is its own."""


class TooLargeError(CertcastError):
    """A key and its chain are larger than HAProxy's buffer, so that no socket command can carry them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A certificate as HAProxy names it.

    Attributes:
        serial: Its serial number.
        thumbprint_sha1: Upper-case hex SHA-1 of its DER; empty where HAProxy cuts it off after very many names.
    """

    serial: int
    thumbprint_sha1: str

    def is_shown_by(self, shown: Leaf | None) -> bool:
        """Whether this is what HAProxy shows."""
        if shown is None or shown.serial != self.serial:
            return False
        return shown.thumbprint_sha1 in {"", self.thumbprint_sha1}


async def put(session: Session, file: str, bundle: CertificateBundle, *, new: bool) -> None:
    """Have HAProxy hold this key and chain under this name, and serve them wherever the name is bound.

    Args:
        session: The conversation.
        file: Full path, by which HAProxy names it.
        bundle: Key, leaf, intermediates.
        new: Whether HAProxy may not know the name yet.

    Raises:
        RefusedError: HAProxy cannot use the certificate.
        TooLargeError: It does not fit through the socket.
        ServerUnavailableError: HAProxy went away, or another program keeps interfering.
    """
    asked_of = await _prepare(session, file, new=new)
    leaf = Leaf(serial=bundle.leaf.serial_number, thumbprint_sha1=bundle.thumbprint_sha1)
    pem = bundle.to_pem()
    for _ in range(_ATTEMPTS):
        if await _stage(session, file, pem, leaf, asked_of) and await _commit(session, file, leaf):
            return
        await _clear(session, file)
    raise ServerUnavailableError(
        f"another program keeps changing certificates through HAProxy's admin socket: {file} could not be set "
        f"undisturbed in {_ATTEMPTS} attempts"
    )


async def bind(session: Session, crt_list: str, file: str, host: str) -> None:
    """Serve a certificate for a host on the listeners of a list.

    Raises:
        RefusedError: HAProxy does not know the list or the file.
    """
    reply = await session.ask(f"add ssl crt-list {crt_list}", f"{file} {host}\n".encode())
    if not reply.endswith("Success!"):
        raise RefusedError(_spoken(reply))


async def unbind(session: Session, crt_list: str, file: str) -> None:
    """Stop serving a certificate on the listeners of a list; nothing happens where it is not bound.

    Raises:
        RefusedError: HAProxy keeps it.
    """
    reply = await session.ask(f"del ssl crt-list {crt_list} {file}")
    if _deleted(reply, file):
        return
    # It is bound twice, which only line numbers can tell apart, or not at all.
    for _, line, _ in reversed([entry for entry in await entries(session, crt_list) if entry[0] == file]):
        reply = await session.ask(f"del ssl crt-list {crt_list} {file}:{line}")
        if not _deleted(reply, file):
            raise RefusedError(_spoken(reply))


async def drop(session: Session, file: str) -> None:
    """Forget a certificate that is bound nowhere; nothing happens where HAProxy does not know it.

    Raises:
        RefusedError: It is still bound somewhere.
    """
    reply = await session.ask(f"del ssl cert {file}")
    if f"'{file}' deleted!" not in reply and "doesn't exist" not in reply:
        raise RefusedError(_spoken(reply))


async def entries(session: Session, crt_list: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """What a list binds: file, line number and host names of each entry."""
    lines = (await session.ask(f"show ssl crt-list -n {crt_list}")).splitlines()
    found = [_ENTRY.match(line.rstrip()) for line in lines if not line.startswith("#")]
    return [(entry["file"], entry["line"], tuple(entry["names"].split())) for entry in found if entry]


async def lists(session: Session) -> list[str]:
    """The lists that HAProxy was started with."""
    return [line for line in (await session.ask("show ssl crt-list")).splitlines() if line.startswith("/")]


async def shown(session: Session, files: list[str]) -> list[Leaf | None]:
    """The leaves that HAProxy holds under some names; None for a name it does not know."""
    return [_leaf(reply) for reply in await session.ask_all([f"show ssl cert {file}" for file in files])]


async def held(session: Session) -> list[str]:
    """The files HAProxy holds, bound or not."""
    return [line for line in (await session.ask("show ssl cert")).splitlines() if line.startswith("/")]


async def may_change(session: Session) -> bool:
    """Whether the socket lets us change certificates, found out without changing any."""
    reply = await session.ask("abort ssl cert /certcast/no-such-file.pem")
    return "transaction" in reply.lower()


async def _prepare(session: Session, file: str, *, new: bool) -> Identity:
    """See that HAProxy knows the name and that no transaction is pending, in one exchange where all is well.

    Returns:
        Which process answered.
    """
    creation = [f"new ssl cert {file}"] if new else []
    *created, cleared, info = await session.ask_all([*creation, f"abort ssl cert {file}", "show info"])
    for reply in created:
        if f"'{file}'" not in reply or not ("New empty certificate store" in reply or "already exists" in reply):
            raise RefusedError(_spoken(reply))
    if not _is_clear(cleared, file):
        await _clear(session, file)
    return session.identity_in(info)


async def _clear(session: Session, file: str) -> None:
    """See that no transaction is pending; one that is meant to be finished has to be begun again.

    Aborting names the file, so asking to abort our own tells of another's at a cost that no number of files changes.
    """
    for _ in range(_ATTEMPTS):
        reply = await session.ask(f"abort ssl cert {file}")
        if _is_clear(reply, file):
            return
        foreign = _FOREIGN.search(reply)
        if foreign is None:
            raise ServerUnavailableError(
                f"HAProxy's socket does not let certificates be changed ({_spoken(reply)}): it needs `level admin`"
            )
        await _abort_foreign(session, foreign[1])
    raise ServerUnavailableError("another program keeps beginning certificate transactions on HAProxy's admin socket")


async def _stage(session: Session, file: str, pem: bytes, leaf: Leaf, asked_of: Identity) -> bool:
    """Begin a transaction that holds exactly this; False when another one got in between."""
    try:
        reply, pending = await session.ask_all([f"set ssl cert {file}", f"show ssl cert *{file}"], payload=pem)
    except ConversationBrokenError:
        if (await session.identity()).process == asked_of.process:
            raise TooLargeError(
                f"key and chain take {len(pem)} bytes, more than HAProxy's buffer lets through its admin socket"
            ) from None
        raise
    if f"Transaction created for certificate {file}!" in reply:
        if leaf.is_shown_by(_leaf(pending)):
            return True
        await session.ask(f"abort ssl cert {file}")
        return False
    if updated := _UPDATED.search(reply):
        await _abort_foreign(session, updated[1])
        return False
    if _FOREIGN.search(reply):
        return False
    raise RefusedError(_spoken(reply))


async def _commit(session: Session, file: str, leaf: Leaf) -> bool:
    """Commit, and see that this is what the name stands for now; False when another one got in between."""
    reply, held_now = await session.ask_all([f"commit ssl cert {file}", f"show ssl cert {file}"])
    if not reply.endswith("Success!"):
        if "No ongoing transaction" in reply or _FOREIGN.search(reply):
            return False
        await session.ask(f"abort ssl cert {file}")
        raise RefusedError(_spoken(reply))
    return leaf.is_shown_by(_leaf(held_now))


async def _abort_foreign(session: Session, file: str) -> None:
    log.warning(
        "HAProxy had a certificate transaction for %s pending that this agent did not begin; it is aborted, since "
        "it would have taken up the next certificate: begin it again if it was meant to be committed",
        file,
    )
    await session.ask(f"abort ssl cert {escaped(file)}")


def _is_clear(reply: str, file: str) -> bool:
    return "No ongoing transaction" in reply or f"Transaction aborted for certificate '{file}'" in reply


def _deleted(reply: str, file: str) -> bool:
    return f"'{file}' deleted in crtlist" in reply or (f"'{file}:" in reply and "deleted in crtlist" in reply)


def _leaf(reply: str) -> Leaf | None:
    serial, thumbprint = _SERIAL.search(reply), _THUMBPRINT.search(reply)
    if serial is None:
        return None
    return Leaf(serial=int(serial[1], 16), thumbprint_sha1=thumbprint[1] if thumbprint else "")


def _spoken(reply: str) -> str:
    """HAProxy's words in one line."""
    return " ".join(reply.split())[:500] or "it answered nothing"
