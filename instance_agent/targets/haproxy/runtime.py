"""Certificates in a running HAProxy: put, bound, unbound, dropped, each step proved; files on the disk are not touched.

HAProxy has one certificate transaction for everybody, and it outlives the connection that began it: a `set` for one
file while another's is pending goes into that other one, and committing it then serves a wrong certificate. So every
reply is checked for the file it names, what is pending is compared with what was sent before it is committed, and what
is served is compared again after.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.haproxy.reading import Leaf, leaf_in
from instance_agent.targets.haproxy.session import ConversationBrokenError, escaped
from shared.errors import CertcastError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from instance_agent.targets.haproxy.session import Identity, Session
    from shared.bundle import CertificateBundle

_ATTEMPTS = 12
_FOREIGN = re.compile(r"The ongoing transaction is about '(.+?)' but you are trying to ")
_UPDATED = re.compile(r"Transaction updated for certificate (.+)!")
_LINES = re.compile(r"preceded by colons \(([\d, ]+)\)")
_NO_LINE = 2**31 - 1

log = logger(__name__)


class RefusedError(CertcastError):
    """HAProxy will not do what was asked; the text is its own."""


class TooLargeError(CertcastError):
    """A key and its chain are larger than HAProxy's buffer, so that no socket command can carry them."""


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


async def bind(session: Session, crt_list: str, file: str, host: str, excepted: AbstractSet[str] = frozenset()) -> None:
    """Serve a certificate for a host on the listeners of a list.

    Args:
        session: The conversation.
        crt_list: The list.
        file: The certificate's.
        host: The host, or a wildcard.
        excepted: Hosts that the wildcard does not answer for.

    Raises:
        RefusedError: HAProxy does not know the list or the file.
    """
    await _add(session, crt_list, entry_line(file, host, excepted))


async def bind_otherwise(session: Session, crt_list: str, file: str, host: str, excepted: AbstractSet[str]) -> None:
    """Have the entry of a host or wildcard leave out exactly these hosts; at no moment is there no entry for it.

    The new one is added first: until the old one is gone, HAProxy answers by the old one, with the same certificate.

    Raises:
        RefusedError: HAProxy keeps the old entry, or takes no new one.
    """
    await _add(session, crt_list, entry_line(file, host, excepted))
    lines = await _lines(session, crt_list, file)
    for line in sorted(lines)[:-1]:
        reply = await session.ask(f"del ssl crt-list {crt_list} {file}:{line}")
        if not _deleted(reply, file):
            await session.ask(f"del ssl crt-list {crt_list} {file}:{max(lines)}")
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
    for line in sorted(await _lines(session, crt_list, file), reverse=True):
        reply = await session.ask(f"del ssl crt-list {crt_list} {file}:{line}")
        if not _deleted(reply, file):
            raise RefusedError(_spoken(reply))


async def carries(session: Session, crt_list: str, line: str) -> bool:
    """Whether an entry fits through the socket, found out without adding any: the list that is named is none."""
    process = (await session.identity()).process
    try:
        await session.ask(f"add ssl crt-list {crt_list}.none", f"{line}\n".encode())
    except ConversationBrokenError:
        if (await session.identity()).process != process:
            raise
        return False
    return True


async def is_default(session: Session, crt_list: str, file: str) -> bool:
    """Whether the entry of a list is what its listeners answer other names and no name with.

    HAProxy tells it by refusing to delete such an entry. One that is deleted, since it is none, is added again: it
    answers for no name, so nothing is served otherwise meanwhile.
    """
    reply = await session.ask(f"del ssl crt-list {crt_list} {file}")
    if _deleted(reply, file):
        await _add(session, crt_list, entry_line(file, "!*"))
    return "used as default certificate" in reply


def entry_line(file: str, host: str, excepted: AbstractSet[str] = frozenset()) -> str:
    """An entry as a list has it, without its end."""
    return " ".join([file, host, *(f"!{each}" for each in sorted(excepted))])


async def drop(session: Session, file: str) -> None:
    """Forget a certificate that is bound nowhere; nothing happens where HAProxy does not know it.

    Raises:
        RefusedError: It is still bound somewhere.
    """
    reply = await session.ask(f"del ssl cert {file}")
    if f"'{file}' deleted!" not in reply and "doesn't exist" not in reply:
        raise RefusedError(_spoken(reply))


async def may_change(session: Session) -> bool:
    """Whether the socket lets us change certificates, found out without changing any."""
    reply = await session.ask("abort ssl cert /certcast/no-such-file.pem")
    return "transaction" in reply.lower()


async def _add(session: Session, crt_list: str, line: str) -> None:
    reply = await session.ask(f"add ssl crt-list {crt_list}", f"{line}\n".encode())
    if not reply.endswith("Success!"):
        raise RefusedError(_spoken(reply))


async def _lines(session: Session, crt_list: str, file: str) -> list[int]:
    """The lines of a list that bind a file: HAProxy names them when it is asked to delete one that is not there."""
    told = _LINES.search(await session.ask(f"del ssl crt-list {crt_list} {file}:{_NO_LINE}"))
    return [int(line) for line in told[1].split(",")] if told else []


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
        if leaf.is_shown_by(leaf_in(pending)):
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
    return leaf.is_shown_by(leaf_in(held_now))


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


def _spoken(reply: str) -> str:
    """HAProxy's words in one line."""
    return " ".join(reply.split())[:500] or "it answered nothing"
