"""What somebody else does to nginx and to our files, beyond what the contract of all targets has: it is put right."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from instance_agent.installing.installer import install
from instance_agent.installing.probe import name_to_probe
from instance_agent.installing.sighting import Pace
from instance_agent.targets.base import Install, InstalledBinding, Remove, ServerUnavailableError
from instance_agent.targets.parts.pem_file import tagged_pem
from shared.messages import InstallOutcome as Outcome
from tests.rigs.nginx import NginxRig, edited, replaced, serving_nginx
from tests.rigs.targets import bind, expect, fresh, fresh_default, owned, owned_after, root, seen, served

HOST = "shop.example.com"
QUICK = Pace(confirm_s=0.2)


@pytest.fixture(params=[True, False], ids=["dynamic", "blocks"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[NginxRig]:
    async with serving_nginx(dynamic=request.param) as rig:
        yield rig


async def found(rig: NginxRig) -> InstalledBinding:
    """What a whole reconcile reads, and hints after it."""
    rig.target.forget()
    (binding,) = await rig.target.current()
    assert {binding} == await rig.target.current([binding.key])
    return binding


async def made_good(rig: NginxRig, *changes: Install) -> None:
    rig.target.forget()
    results = await install(rig.target, changes, rig.probe, pace=QUICK)
    assert [result.outcome for result in results] == [Outcome.LIVE] * len(changes), results
    rig.target.forget()
    assert owned(await rig.target.current()) == owned_after(*changes)
    await expect(rig, 443, {name_to_probe(change.host): change for change in changes})


@pytest.mark.parametrize("put_back", [True, False])
async def test_another_certificate_that_nginx_loaded_is_replaced_whatever_the_file_says(
    rig: NginxRig,
    put_back: bool,  # noqa: FBT001
) -> None:
    mine, other = fresh(HOST, 443), fresh(HOST, 443)
    await served(rig, mine)
    ours = rig.pem(HOST).read_bytes()
    replaced(rig.pem(HOST), tagged_pem(replace(other, bundle_id=mine.bundle_id)))
    await rig.reread()
    await expect(rig, 443, {HOST: other})
    if put_back:
        replaced(rig.pem(HOST), ours)
    elif not put_back:
        assert (await found(rig)).fingerprint_sha256 == other.bundle.fingerprint_sha256
    await made_good(rig, mine)


async def test_a_file_changed_in_its_place_within_the_same_second_is_noticed(rig: NginxRig) -> None:
    mine = bind(root().intermediate().issue(HOST), HOST, 443)
    await served(rig, mine)
    assert mine.is_done_by(await found(rig))
    content = rig.pem(HOST).read_bytes()
    at = content.rindex(b"-----BEGIN CERTIFICATE") + 40
    spoilt = content[:at] + (b"A" if content[at : at + 1] != b"A" else b"B") + content[at + 1 :]
    rig.pem(HOST).write_bytes(spoilt)  # of the same size; the leaf is the same too
    assert not mine.is_done_by(await found(rig))
    await made_good(rig, mine)


async def test_a_file_that_was_deleted_is_written_again(rig: NginxRig) -> None:
    mine = fresh(HOST, 443)
    await served(rig, mine)
    rig.pem(HOST).unlink()
    rig.target.forget()
    assert await rig.target.current() == frozenset()
    await made_good(rig, mine)


async def test_a_certificate_put_there_by_hand_goes_when_its_host_is_removed(rig: NginxRig) -> None:
    await served(rig, fresh(HOST, 443))
    await rig.tamper(HOST, 443, root().issue(HOST).bundle())
    rig.target.forget()
    (result,) = await install(rig.target, [Remove(host=HOST, port=443)], rig.probe, pace=QUICK)
    assert result.outcome is Outcome.REMOVED
    assert not rig.pem(HOST).exists()
    await expect(rig, 443, {HOST: rig.fallback})


async def test_an_include_taken_out_of_nginx_conf_is_named_and_all_is_well_when_it_is_back(rig: NginxRig) -> None:
    mine = fresh(HOST, 443)
    await served(rig, mine)
    line = f'include "{rig.server.certificates}/*.conf";'
    with edited(rig.server.folder / "nginx.conf", line, ""):
        await rig.reload()
        rig.target.forget()
        for _ in range(2):
            with pytest.raises(ServerUnavailableError, match="add `include "):
                await rig.target.current()
        (result,) = await install(rig.target, [mine], rig.probe, pace=QUICK)
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        assert "add `include " in result.reason
    await made_good(rig, mine)


async def test_an_include_edited_by_hand_is_written_and_loaded_again(
    rig: NginxRig, caplog: pytest.LogCaptureFixture
) -> None:
    mine, another = fresh(HOST, 443), root().issue("another.example")
    await served(rig, mine)
    main = rig.server.certificates / "certcast.conf"
    (rig.server.folder / "another.pem").write_bytes(another.bundle().to_pem())
    text = main.read_text()
    main.write_text(text.replace(str(rig.server.certificates / "fallback.pem"), str(rig.server.folder / "another.pem")))
    await rig.reload()
    await expect(rig, 443, {"unknown.example": another.fingerprint})
    rig.target.forget()
    assert owned(await rig.target.current()) == owned_after(mine)
    assert "written and loaded again" in caplog.text
    await expect(rig, 443, {"unknown.example": rig.fallback, HOST: mine})


async def test_a_template_that_is_being_edited_is_taken_up_by_the_next_start_alone(rig: NginxRig) -> None:
    template = rig.server.folder / "body.j2"
    template.write_text("location / { return 204; }\n")
    await rig.restart_agent(CERTCAST_NGINX_TEMPLATE=str(template))
    template.write_text("location / { return {{ nonsense }")
    mine = fresh(HOST, 443)
    await made_good(rig, mine)


async def test_an_nginx_that_is_down_is_named_once_it_is_asked_again(rig: NginxRig) -> None:
    mine = fresh(HOST, 443)
    await served(rig, mine)
    await rig.server.stop()
    rig.target.forget()
    with pytest.raises(ServerUnavailableError, match="nginx is not running"):
        await rig.target.current()
    await rig.server.start()
    await made_good(rig, mine)


async def test_an_nginx_restarted_behind_our_back_serves_names_and_default_as_before(rig: NginxRig) -> None:
    mine, unnamed = fresh(HOST, 443), fresh_default(443)
    await served(rig, mine, unnamed)
    await rig.server.stop()
    await rig.server.start()
    await expect(rig, 443, {HOST: mine, None: unnamed, "unknown.example": unnamed})
    await made_good(rig, mine, unnamed)


class TestBlocks:
    @pytest.fixture
    async def rig(self) -> AsyncIterator[NginxRig]:
        async with serving_nginx(dynamic=False) as rig:
            yield rig

    @pytest.mark.parametrize("tagged", [True, False])
    async def test_a_block_that_was_edited_is_written_again(self, rig: NginxRig, tagged: bool) -> None:  # noqa: FBT001
        mine, other = fresh(HOST, 443), fresh("other.example.com", 443)
        await served(rig, mine, other)
        block = rig.block(HOST)
        text = block.read_text().replace(str(rig.pem(HOST)), str(rig.pem(other.host)))
        block.write_text(text if tagged else text.partition("\n")[2])
        await rig.reload()
        await expect(rig, 443, {HOST: other})
        rig.target.forget()
        done = {each.host: each for each in await rig.target.current()}
        assert other.is_done_by(done[other.host])
        assert not mine.is_done_by(done[HOST])
        await made_good(rig, mine, other)

    async def test_a_block_that_was_edited_goes_when_its_host_is_removed(self, rig: NginxRig) -> None:
        await served(rig, fresh(HOST, 443))
        rig.block(HOST).write_text(rig.block(HOST).read_text() + "# by hand\n")
        rig.target.forget()
        (result,) = await install(rig.target, [Remove(host=HOST, port=443)], rig.probe, pace=QUICK)
        assert result.outcome is Outcome.REMOVED
        assert await seen(rig, 443, HOST) == rig.fallback
        assert not rig.block(HOST).exists()


async def test_a_snippet_edited_by_hand_is_written_and_loaded_again() -> None:
    async with serving_nginx(dynamic=True) as rig:
        mine = fresh(HOST, 443)
        await served(rig, mine)
        snippet = rig.server.certificates / "certcast.lua"
        written = snippet.read_bytes()
        snippet.write_bytes(written.replace(b"ssl.server_name()", b"'nothing'"))
        await rig.reload()
        await expect(rig, 443, {HOST: rig.fallback})
        await made_good(rig, mine)
        assert snippet.read_bytes() == written
