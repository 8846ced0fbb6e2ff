"""What clients ask for, and which binding answers: one list for all targets and for the rule in `shared.hostnames`."""

import asyncio
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from tests.rigs.targets import Rig, bind, endpoint, root, served
from tests.rigs.visitors import flight_for_raw_name

EXACT, WILD, DEEP = "shop.wild.test", "*.wild.test", "*.deep.wild.test"
LONG = f"*.{'p' * 63}.{'q' * 63}.{'r' * 56}.test"
"""The longest label fits before it: 253 characters in all."""
BOUND = (EXACT, WILD, DEEP, LONG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A server name as a client may send it.

    Attributes:
        name: Its bytes.
        answer: What is bound for it by the rule; None for nothing: the fallback answers, or the handshake ends.
        or_else: What a server may answer that does not ask us, since such a name is none.
    """

    name: bytes
    answer: str | None
    or_else: tuple[str | None, ...] = ()


NAMES = (
    *(Asked(name=name, answer=EXACT) for name in (b"shop.wild.test", b"SHOP.Wild.TEST")),
    *(
        Asked(name=label + b".wild.test", answer=WILD)
        for label in (
            b"blog",
            b"my_shop",
            b"MY_Shop",
            b"_dmarc",
            b"_",
            b"shop_",
            b"-x",
            b"x-",
            b"-",
            b"123",
            b"xn--bcher-kva",
            b"xn--",
            b"deep",
            b"x" * 63,
        )
    ),
    *(Asked(name=name, answer=DEEP) for name in (b"x.deep.wild.test", b"my_shop.DEEP.wild.test")),
    Asked(name=b"x" * 63 + LONG[1:].encode(), answer=LONG),
    *(
        Asked(name=name, answer=None)
        for name in (
            b"wild.test",
            b"a.b.wild.test",
            b"_a._b.wild.test",
            b"shop.wild.test.evil.test",
            b"wild",
            b"1.2.3.4",
        )
    ),
)
"""What every server answers alike."""

ODD_NAMES = (
    Asked(name=b"shop.wild.test.", answer=EXACT, or_else=(None,)),
    Asked(name=b"my_shop.wild.test.", answer=WILD, or_else=(None,)),
    *(
        Asked(name=name, answer=None, or_else=(WILD,))
        for name in (
            b"x" * 64 + b".wild.test",
            b".wild.test",
            b"*.wild.test",
            b"a b.wild.test",
            b"a\x01b.wild.test",
            b"a\x7f.wild.test",
            b"\xc3\xa9.wild.test",
            b"\xe2\x84\xaa.wild.test",
            b"a'\"{;$\\.wild.test",
        )
    ),
    Asked(name=b"x" * 64 + LONG[1:].encode(), answer=None, or_else=(LONG,)),
    *(
        Asked(name=name, answer=None)
        for name in (
            b".",
            b"..",
            b"-",
            b"shop..wild.test",
            b"shop.wild.test..",
            b"shop.wild.test\0",
            b"shop.wild.test\0.evil.test",
            b"../shop.wild.test",
            b"x/../shop.wild.test",
            b"_.wild.test.pem",
            b"shop.wild.test.pem",
            b"_default_",
            b"x" * 255,
        )
    ),
)
"""What is no name, or is written as few clients do."""


class NamesContract:
    """What the server answers to what clients ask for, in any bytes; for servers that speak TLS 1.2."""

    async def test_what_clients_ask_for_is_answered_by_one_rule(self, rig: Rig) -> None:
        port = rig.ports[0]
        changes = {host: bind(root().issue(host, subject="names"), host, port) for host in BOUND}
        await served(rig, *changes.values())
        leaves = {each.bundle.leaf.public_bytes(Encoding.DER): host for host, each in changes.items()}
        turns = asyncio.Semaphore(8)

        async def answer(name: bytes) -> str | None:
            async with turns:
                flight = await flight_for_raw_name(endpoint(rig, port), name)
            return next((host for leaf, host in leaves.items() if leaf in flight), None)

        asked = (*NAMES, *ODD_NAMES)
        found = await asyncio.gather(*(answer(each.name) for each in asked))
        told = zip(asked, found, strict=True)
        wrong = {each.name: answer for each, answer in told if answer not in {each.answer, *each.or_else}}
        assert not wrong, wrong
        await served(rig, changes[EXACT])
