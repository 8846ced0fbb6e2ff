"""What can be looked at of a deployment from its edges: identity, storage, key, clock, and where events go.

Both `certcast doctor` and the Function's own health are made of these checks; what is judged by use cases is not here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from azure.core.exceptions import AzureError

from shared.azure.errors import translated
from shared.azure.key_ring import SETTING as KEY_SETTING
from shared.azure.key_ring import open_keys
from shared.config.webhooks import WEBHOOK_SETTING
from shared.errors import CertcastError, ConfigurationError, MissingError, NotSetUpError
from shared.hostnames import LOOPBACK_NAMES
from shared.phrasing import shown
from shared.state.findings import Check, Finding, Seen, Severity, each_of
from shared.state.records import HISTORY_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from azure.core.credentials import TokenCredential

    from shared.azure.account import Account
    from shared.azure.bundles import SealedBundles
    from shared.azure.envelope import Envelope
    from shared.config import StorageAccess

T = TypeVar("T")

LISTED_BUNDLES = 5_000
"""Of the bundles' listing, one page (learn.microsoft.com, "List Blobs", maxresults)."""
_TRIED_KEYS = 5

_STORAGE_SCOPE = "https://storage.azure.com/.default"
# learn.microsoft.com, "Access token claims reference": who, the application, the object; any of them may be left out.
_WHO = ("upn", "unique_name", "preferred_username", "appid", "azp", "oid")

CLOCK_NOTED = timedelta(seconds=30)
CLOCK_WRONG = timedelta(minutes=5)
"""Storage refuses requests signed with a key that are 15 minutes old (learn.microsoft.com, "Authorize with Shared
Key", specifying the Date header): a third of that is no matter of a slow network."""

_LATER_TABLES = frozenset({f"table {HISTORY_TABLE}"})
"""Tables that the first deployments did not bring, and without which all else goes on."""


def account_checks(account: Account) -> list[Check]:
    """The checks of a storage account, and of how it is reached."""
    keyed = account.bundles if account.has_key else None
    checks = [
        Check(name="containers", look=lambda: _deployed(account, "container")),
        Check(name="queues", look=lambda: _deployed(account, "queue")),
        Check(name="tables", look=lambda: _deployed(account, "table")),
        Check(name="clock", look=lambda: _clock(account), vital=False),
    ]
    if account.access.connection_string is None:
        checks.insert(0, Check(name="identity", look=lambda: _identity(account)))
    if keyed is not None:
        trial = KeyTrial(keyed)
        name = "key file" if keyed.key_is_file else "vault key"
        checks.append(Check(name=name, look=trial.key))
        checks.append(Check(name="bundles", look=trial.bundles, vital=False))
    return checks


async def _deployed(account: Account, kind: str) -> Seen:
    looks = [(about, look) for about, look in account.deployed() if about.startswith(f"{kind} ")]
    seen = await each_of(looks, lambda about: _creation(about, account.access))
    findings = (_softened(finding) for finding in seen.findings)
    return Seen(remark=seen.remark, findings=tuple(findings))


def _softened(finding: Finding) -> Finding:
    if finding.about not in _LATER_TABLES:
        return finding
    return Finding(code=finding.code, about=finding.about, detail=finding.detail, severity=Severity.WARNING)


def _creation(about: str, access: StorageAccess) -> str:
    """How a missing part is made."""
    if access.is_emulator:
        return "stop `certcast up` and start it again: it makes what is missing"
    kind, _, name = about.partition(" ")
    return f"create it with `az storage {kind} create --name {name} --account-name ACCOUNT --auth-mode login`"


async def _identity(account: Account) -> Seen:
    try:
        token = await account.identity().get_token(_STORAGE_SCOPE)
    except AzureError as error:
        detail = (
            f"{translated(error, 'asking for a token for storage')}; on your own machine sign in with `az login`; a "
            "machine in Azure must have the identity that CERTCAST_STORAGE__clientId names"
        )
        return Seen(findings=(Finding(code="identity", about="identity", detail=detail),))
    return Seen(remark=whose(token.token))


def whose(token: str) -> str:
    """Whose a token is, as far as it tells; for people alone, as its signature is not looked at."""
    claims: object = None
    with suppress(ValueError, binascii.Error, IndexError):
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    if not isinstance(claims, dict):
        return "a token that does not tell whose it is"
    told = [f"{name} {shown(str(claims[name]))}" for name in _WHO if claims.get(name)]
    return ", ".join(told[:2]) or "a token that does not tell whose it is"


async def _clock(account: Account) -> Seen:
    with suppress(MissingError, NotSetUpError):
        await account.state.uploads.get("certcast-doctor")  # whatever is answered has the service's time
    return clock_seen(account.clock.now() - datetime.now(UTC))


def clock_seen(ahead: timedelta) -> Seen:
    """What a difference between clocks comes to.

    Args:
        ahead: How much the service's clock is ahead of this machine's; known to two seconds.
    """
    apart = abs(ahead)
    if apart < CLOCK_NOTED:
        return Seen(remark="as the storage account's, to a few seconds")
    said = f"{apart // timedelta(minutes=1)} min" if apart >= timedelta(minutes=2) else f"{apart.seconds} s"
    side = "behind" if ahead > timedelta() else "ahead of"
    detail = (
        f"this machine's clock is {said} {side} the storage account's: set it, and have it kept (NTP, `timedatectl`, "
        "`w32tm`); at 15 minutes the account refuses requests that are signed with its key"
    )
    severity = Severity.WRONG if apart >= CLOCK_WRONG else Severity.WARNING
    return Seen(findings=(Finding(code="clock", about="clock", detail=detail, severity=severity),))


def key_fault(setting: str) -> Finding | None:
    """What is wrong with the key-encryption key as it is set; a vault is not asked."""

    def identity() -> TokenCredential:
        raise ConfigurationError("no identity is needed to read the setting")

    try:
        open_keys(setting, identity).close()
    except ConfigurationError as error:
        return Finding(code="key", about=KEY_SETTING, detail=str(error))
    return None


class KeyTrial:
    """Tries the key-encryption key, one try at a time: a vault that hangs holds one thread, however often one asks.

    Args:
        bundles: What is sealed under it.
    """

    def __init__(self, bundles: SealedBundles) -> None:
        self._bundles = bundles
        self._under_way: asyncio.Future[Seen] | None = None

    async def key(self) -> Seen:
        """Wrap and unwrap a value."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.ensure_future(_in_a_thread(self._try))
        return await asyncio.shield(self._under_way)

    def _try(self) -> Seen:
        try:
            return Seen(remark=f"{shown(self._bundles.try_key())} wrapped a value and unwrapped it")
        except CertcastError as error:
            return Seen(findings=(Finding(code="key", about=KEY_SETTING, detail=str(error)),))

    async def bundles(self) -> Seen:
        """Unwrap the content keys of a few of those bundles that were sealed under each key."""
        try:
            found = await self._bundles.envelopes(LISTED_BUNDLES)
        except NotSetUpError:
            return Seen(remark="their container is not there, see above", looked=False)
        tried = dict(list(found.items())[:_TRIED_KEYS])
        return await _in_a_thread(lambda: Seen(remark=_count(found), findings=self._tried(tried)))

    def _tried(self, found: dict[str, list[tuple[str, Envelope]]]) -> tuple[Finding, ...]:
        findings = []
        for key_id, bundles in found.items():
            for bundle_id, envelope in {bundles[0][0]: bundles[0][1], bundles[-1][0]: bundles[-1][1]}.items():
                try:
                    self._bundles.try_envelope(bundle_id, envelope)
                except CertcastError as error:
                    about = f"{len(bundles)} bundle(s) sealed under {shown(key_id)}"
                    findings.append(Finding(code="bundle_key", about=about, detail=str(error)))
                    break
        return tuple(findings)


def _count(found: dict[str, list[tuple[str, Envelope]]]) -> str:
    return ", ".join(f"{len(bundles)} sealed under {shown(key_id)}" for key_id, bundles in found.items()) or "none yet"


async def _in_a_thread(call: Callable[[], T]) -> T:
    """Call what blocks in a thread of its own, which keeps no process from ending, as those of a pool do."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            failure = error
        with suppress(RuntimeError):  # the loop was closed: its user did not wait so long
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="checkup", daemon=True).start()
    return await future


def address_fault(setting: str, url: str) -> Finding | None:
    """What is wrong with an address that events are sent to, as it is written."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.scheme in {"https", "http"} and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        detail = f"{setting} is no address: write https://…, as the portal or `az eventgrid topic show` has it"
        return Finding(code="topic", about=setting, detail=detail)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_NAMES:
        detail = f"{setting} must begin with https://: events and their key would be sent unencrypted"
        return Finding(code="topic", about=setting, detail=detail)
    return None


def outlet_checks(outlets: dict[str, str]) -> list[Check]:
    """The checks of where outgoing events go.

    Args:
        outlets: Addresses by the names of their settings.
    """
    if not outlets:
        return []

    async def well_formed() -> Seen:
        findings = (address_fault(setting, url) for setting, url in outlets.items())
        return Seen(remark=", ".join(outlets), findings=tuple(filter(None, findings)))

    def reach(setting: str, url: str) -> Check:
        return Check(name=f"{setting} answers", look=lambda: _reached(setting, url), vital=False)

    sound = {setting: url for setting, url in outlets.items() if address_fault(setting, url) is None}
    return [Check(name="topic", look=well_formed), *(reach(setting, url) for setting, url in sound.items())]


def named_webhooks(urls: Sequence[str]) -> dict[str, str]:
    """Webhooks' addresses by names to call them, as an address may itself be a secret."""
    if len(urls) == 1:
        return {WEBHOOK_SETTING: urls[0]}
    return {f"{WEBHOOK_SETTING}, address {number}": url for number, url in enumerate(urls, start=1)}


async def _reached(setting: str, url: str) -> Seen:
    """Connect, and send nothing: whether an event would be taken can be asked only by sending one."""
    parts = urlsplit(url)
    host, port = str(parts.hostname), _port(parts)
    if parts.hostname not in LOOPBACK_NAMES and parts.scheme in getproxies():
        return Seen(remark="requests go by a proxy, which this connection would not", looked=False)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        why = f"shows a certificate that is not believed ({error.verify_message})"
    except OSError as error:
        why = f"cannot be reached ({error.strerror or type(error).__name__})"
    else:
        writer.close()
        return Seen(remark=f"{shown(host)}:{port} takes connections; whether it takes events was not asked")
    detail = (
        f"{shown(host)}:{port}, which {setting} names, {why}: check the name, and the network between; events wait "
        "meanwhile and are sent for a week"
    )
    return Seen(findings=(Finding(code="unreachable", about=setting, detail=detail, severity=Severity.WARNING),))


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)
