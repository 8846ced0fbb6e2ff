"""What the Function says of itself: its settings, identity and key are not those of the one who asks."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp

from operator_cli.status_api import KEY_SETTING, api_address
from shared.errors import UnavailableError
from shared.phrasing import LOGGED_CHARS, shown
from shared.state.findings import CHECK_S, Check, Checked, Finding, Result, Seen, Severity, make_checks

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "Function"

_MOST_BYTES = 1_000_000
_MOST = 100
"""Checks and findings taken from one answer."""


async def ask_function(url: str, env: Mapping[str, str]) -> list[Checked]:
    """Ask the Function's health, and with a key its diagnosis, whose checks come each as one of its own.

    Args:
        url: Address of the Functions app.
        env: Where the function key is.

    Raises:
        ConfigurationError: The address cannot be used.
    """
    api, key = api_address(url), env.get(KEY_SETTING, "").strip()
    theirs: list[Checked] = []

    async def health() -> Seen:
        return await _health(api, has_key=bool(key))

    async def diagnosis() -> Seen:
        if not key:
            return Seen(remark=f"{KEY_SETTING} is not set, so that it tells only whether it is well", looked=False)
        status, document = await _get(f"{api}/diagnosis", {"x-functions-key": key})
        seen, found = _diagnosis(api, status, document)
        theirs.extend(found)
        return seen

    made = await make_checks(
        [Check(name=f"{NAME}: healthz", look=health), Check(name=f"{NAME}: diagnosis", look=diagnosis)]
    )
    return [*made, *theirs]


async def _get(address: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    """One answer: its status, and its document where that is JSON of a usable length."""
    timeout = aiohttp.ClientTimeout(total=CHECK_S)
    try:
        # No redirect: it would take the key along.
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(address, headers=headers, allow_redirects=False) as answer,
        ):
            content = b""
            while len(content) <= _MOST_BYTES and (piece := await answer.content.read(_MOST_BYTES)):
                content += piece
            return answer.status, _parsed(content)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UnavailableError(
            f"{address} does not answer ({type(error).__name__}): check the address, and that the app runs"
        ) from None


def _parsed(content: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


async def _health(api: str, *, has_key: bool) -> Seen:
    status, document = await _get(f"{api}/healthz", {})
    if status == HTTPStatus.OK and isinstance(document, dict) and document.get("status") == "ok":
        return Seen(remark="ok")
    parts = document.get("parts") if isinstance(document, dict) else None
    if not isinstance(parts, dict):
        detail = f"{api}/healthz answered {status}: is it the address of certcast's Functions app?"
        return Seen(findings=(Finding(code="function", about=NAME, detail=detail),))
    names = ", ".join(shown(str(name)) for name in list(parts)[:_MOST])
    why = "its diagnosis says why" if has_key else f"its diagnosis says why: set {KEY_SETTING}"
    detail = f"it cannot do its work: {names} failing; {why}"
    return Seen(findings=(Finding(code="function", about=NAME, detail=detail),))


def _diagnosis(api: str, status: int, document: Any) -> tuple[Seen, list[Checked]]:  # noqa: ANN401 - JSON
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        detail = f"{api}/diagnosis refuses the key in {KEY_SETTING}: give the app's (az functionapp keys list)"
        return Seen(findings=(Finding(code="refused", about=KEY_SETTING, detail=detail),)), []
    if status == HTTPStatus.NOT_FOUND:
        return Seen(remark="that Function is of an older version, which has none", looked=False), []
    if status != HTTPStatus.OK or not isinstance(document, dict):
        detail = f"{api}/diagnosis answered {status}: is it the address of certcast's Functions app?"
        return Seen(findings=(Finding(code="function", about=NAME, detail=detail),)), []
    version = _text(document, "version")
    return Seen(remark=f"certcast {version}" if version else "as follows"), _checks_in(document)


def _checks_in(document: Mapping[str, Any]) -> list[Checked]:
    """The checks that a diagnosis tells of, whatever stands in it."""
    found = _findings(document, "problems", Severity.WRONG)
    for name, warned in _findings(document, "warnings", Severity.WARNING).items():
        found.setdefault(name, []).extend(warned)
    told = {_text(each, "name"): each for each in _list(document, "checks")}
    return [
        Checked(
            name=f"{NAME}: {name}",
            seen=Seen(
                remark=_text(each, "remark"),
                findings=tuple(found.get(name, ())),
                looked=each.get("result") != Result.NOT_LOOKED_AT.value,
            ),
        )
        for name, each in told.items()
    ]


def _findings(document: Mapping[str, Any], key: str, severity: Severity) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for each in _list(document, key):
        finding = Finding(
            code=_text(each, "code"),
            about=f"{NAME}, {_text(each, 'about')}",
            detail=_text(each, "detail"),
            severity=severity,
        )
        found.setdefault(_text(each, "check"), []).append(finding)
    return found


def _list(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = document.get(key)
    return [each for each in entries if isinstance(each, dict)][:_MOST] if isinstance(entries, list) else []


def _text(document: Mapping[str, Any], key: str) -> str:
    return shown(str(document.get(key, "")), LOGGED_CHARS)
