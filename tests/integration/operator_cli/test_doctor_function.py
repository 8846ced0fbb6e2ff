"""What doctor takes of the answers of a Function's address, which may be slow, long or something else."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from operator_cli.doctor.function import ask_function
from operator_cli.status_api import KEY_SETTING
from shared.state.findings import Result


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """A Function whose answers arrive piece by piece."""
    runner = web.AppRunner(app := web.Application())
    app.router.add_get("/api/healthz", _healthz)
    app.router.add_get("/api/diagnosis", _diagnosis)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _healthz(request: web.Request) -> web.StreamResponse:
    return await _in_pieces(request, {"status": "ok"})


async def _diagnosis(request: web.Request) -> web.StreamResponse:
    checks = [{"name": f"check {number}", "result": "ok", "remark": "x" * 200} for number in range(90)]
    return await _in_pieces(request, {"version": "9.1", "ok": True, "checks": checks, "problems": [], "warnings": []})


async def _in_pieces(request: web.Request, document: object) -> web.StreamResponse:
    answer, text = web.StreamResponse(), json.dumps(document).encode()
    await answer.prepare(request)
    for piece in (text[:5], text[5:9], text[9:]):
        await answer.write(piece)
        await asyncio.sleep(0.02)
    return answer


async def test_an_answer_that_arrives_in_pieces_is_read_to_its_end(address: str) -> None:
    checked = await ask_function(address, {KEY_SETTING: "key"})
    assert {each.result for each in checked} == {Result.OK}
    assert [each.name for each in checked][:3] == ["Function: healthz", "Function: diagnosis", "Function: check 0"]
    assert checked[1].seen.remark == "certcast 9.1"
    assert len(checked) == 92
