"""Stock nginx: the contract of all targets, what is this mode's own, and what a reload costs."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from instance_agent.installing.installer import install
from instance_agent.targets.base import ApplyError, Install, ServerUnavailableError
from shared.messages import InstallOutcome as Outcome
from tests.contracts.names import NamesContract
from tests.contracts.targets import (
    DefaultContract,
    DefaultRestartContract,
    HandmadeChangeContract,
    ReloadContract,
    RestartContract,
    TlsContract,
)
from tests.rigs.deployment import ROOT
from tests.rigs.nginx import NginxRig, running_as_root, serving_nginx
from tests.rigs.targets import bind, endpoint, expect, fresh, owned, owned_after, root, seen, served
from tests.rigs.visitors import visiting


class TestTheContract(
    TlsContract,
    ReloadContract,
    RestartContract,
    HandmadeChangeContract,
    NamesContract,
    DefaultContract,
    DefaultRestartContract,
):
    """With the module's rig."""


@pytest.fixture
async def rig() -> AsyncIterator[NginxRig]:
    async with serving_nginx(dynamic=False) as rig:
        yield rig


def reloads(rig: NginxRig) -> int:
    return sum("signal 1 (SIGHUP) received" in line for line in rig.server.process.last_lines)


def block(rig: NginxRig, host: str) -> Path:
    return rig.server.certificates / "blocks" / "443" / f"{host}.conf"


def contents(rig: NginxRig) -> dict[Path, bytes]:
    """Every file of ours outside the folder for batches."""
    folder = rig.server.certificates
    return {
        path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and ".staging" not in path.parts
    }


KILLED = """
import asyncio, json, sys
from instance_agent.selection import make_target
from instance_agent.targets.base import Install, Remove
from shared.bundle import CertificateBundle, bundle_id

async def main():
    told = json.load(sys.stdin)
    target = make_target("nginx", told["env"])
    await target.start()
    bundles = [CertificateBundle.from_pem(pem.encode()) for pem in told["pems"]]
    changes = [
        Install(host=each.dns_names[0], port=443, bundle_id=bundle_id(each, b""), bundle=each, generation=2)
        for each in bundles
    ]
    if told["remove"]:
        changes.append(Remove(host=told["remove"], port=443))
    async def never():
        print("written", flush=True)
        await asyncio.Event().wait()
    target._nginx.test = never
    await target.apply(changes)

asyncio.run(main())
"""


async def killed_before_its_test(rig: NginxRig, installs: Sequence[Install], *, remove: str = "") -> None:
    """An agent that writes the files of a batch and is killed before nginx was asked about them."""
    told = {"env": rig.env, "pems": [each.bundle.to_pem().decode() for each in installs], "remove": remove}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(told).encode())
        process.stdin.close()
        assert await process.stdout.readline() == b"written\n"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class TestReloads:
    async def test_a_batch_is_one_reload_whatever_its_size(self, rig: NginxRig) -> None:
        before = reloads(rig)
        await rig.target.apply([fresh(f"h{i}.example.com", 443) for i in range(50)])
        assert reloads(rig) == before + 1

    async def test_reloads_are_kept_apart(self) -> None:
        async with serving_nginx(dynamic=False, CERTCAST_RELOAD_MIN_INTERVAL_S="1") as rig:
            moments = []
            for host in ("a.example.com", "b.example.com", "c.example.com"):
                await rig.target.apply([fresh(host, 443)])
                moments.append(time.monotonic())
            assert moments[2] - moments[0] >= 1.5

    async def test_an_agent_started_again_reloads_nothing(self, rig: NginxRig) -> None:
        await rig.target.apply([fresh("a.example.com", 443)])
        before = reloads(rig)
        await rig.restart_agent()
        assert reloads(rig) == before


class TestTrouble:
    async def test_the_host_that_nginx_names_is_the_only_one_reported(self, tmp_path: Path) -> None:
        template = tmp_path / "body.j2"
        template.write_text("{% if host.startswith('bad') %}nonsense on;{% endif %}\nlocation / { return 204; }\n")
        async with serving_nginx(dynamic=False, CERTCAST_NGINX_TEMPLATE=str(template)) as rig:
            changes = [fresh(host, 443) for host in ("a.example.com", "bad.example.com", "c.example.com")]
            before = reloads(rig)
            with pytest.raises(ApplyError, match=r'unknown directive "nonsense"') as caught:
                await rig.target.apply(changes)
            assert caught.value.culprit == ("bad.example.com", 443)
            assert await rig.target.current() == frozenset()
            assert not list(rig.server.certificates.glob("*/443/*"))
            assert reloads(rig) == before
            results = await install(rig.target, changes, rig.probe)
            assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.FAILED, Outcome.LIVE]
            assert reloads(rig) == before + 1

    async def test_a_configuration_broken_by_others_is_reported_and_healed_by_the_same_batch(
        self, rig: NginxRig
    ) -> None:
        old, change = fresh("a.example.com", 443), fresh("a.example.com", 443)
        await rig.target.apply([old])
        configuration = rig.server.folder / "nginx.conf"
        sound = configuration.read_text()
        configuration.write_text(sound + "nonsense;\n")
        with pytest.raises(ServerUnavailableError, match="nonsense"):
            await rig.target.apply([change])
        assert owned(await rig.target.current()) == owned_after(old)
        assert await seen(rig, 443, "a.example.com") == old.bundle.fingerprint_sha256
        configuration.write_text(sound)
        (result,) = await install(rig.target, [change], rig.probe)
        assert result.outcome is Outcome.LIVE

    async def test_an_nginx_that_is_down_is_reported_and_comes_back_with_what_it_had(self, rig: NginxRig) -> None:
        old = fresh("a.example.com", 443)
        await rig.target.apply([old])
        await rig.server.process.kill()
        change = fresh("a.example.com", 443)
        (result,) = await install(rig.target, [change], rig.probe)
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        await rig.server.start()
        await expect(rig, 443, {"a.example.com": old, "unknown.example": rig.fallback})
        (result,) = await install(rig.target, [change], rig.probe)
        assert result.outcome is Outcome.LIVE

    async def test_a_host_whose_name_nginx_has_no_room_for_does_not_hold_up_the_others(self) -> None:
        async with serving_nginx(
            dynamic=False, extra_http="    server_names_hash_bucket_size 64;\n    server_names_hash_max_size 512;\n"
        ) as rig:
            long = f"{'x' * 60}.example.com"
            changes = [
                bind(root().issue(host, subject="any"), host, 443) for host in ("a.example.com", long, "c.example.com")
            ]
            results = await install(rig.target, changes, rig.probe)
            assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.FAILED, Outcome.LIVE]
            assert "server_names_hash_bucket_size" in results[1].reason

    async def test_files_that_nginx_had_yet_to_take_when_the_agent_was_killed_are_put_back_by_the_next_start(
        self, tmp_path: Path
    ) -> None:
        template = tmp_path / "body.j2"
        template.write_text("{% if host.startswith('bad') %}nonsense on;{% endif %}\nlocation / { return 204; }\n")
        async with serving_nginx(dynamic=False, CERTCAST_NGINX_TEMPLATE=str(template)) as rig:
            old, new, gone = fresh("a.example.com", 443), fresh("a.example.com", 443), fresh("gone.example.com", 443)
            bad = fresh("bad.example.com", 443)
            await rig.target.apply([old, gone])
            before = contents(rig)
            await killed_before_its_test(rig, [new, bad], remove="gone.example.com")
            assert contents(rig) != before
            assert "nonsense" in (await rig.target._nginx.test() or "")
            await rig.restart_agent()
            assert contents(rig) == before
            assert await rig.target._nginx.test() is None
            await expect(rig, 443, {"a.example.com": old, "gone.example.com": gone})
            results = await install(rig.target, [new, bad], rig.probe)
            assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.FAILED]

    async def test_good_files_of_a_killed_agent_are_put_back_too_and_installed_again(self, rig: NginxRig) -> None:
        old, new = fresh("a.example.com", 443), fresh("a.example.com", 443)
        await rig.target.apply([old])
        await killed_before_its_test(rig, [new])
        await rig.restart_agent()
        assert owned(await rig.target.current()) == owned_after(old)
        (result,) = await install(rig.target, [new], rig.probe)
        assert result.outcome is Outcome.LIVE

    async def test_long_names_are_served_where_no_one_else_set_the_room_for_them(self, rig: NginxRig) -> None:
        host = f"{'x' * 63}.{'y' * 63}.example.com"
        await served(rig, bind(root().issue(host, subject="long"), host, 443))


class TestFiles:
    @pytest.mark.skipif(
        not running_as_root(), reason="needs root: only then do nginx's workers have a user of their own"
    )
    async def test_nothing_is_readable_by_the_workers(self) -> None:
        async with serving_nginx(dynamic=False, worker_user="www-data") as rig:
            await served(rig, fresh("shop.example.com", 443))
            below = list(rig.server.certificates.rglob("*"))
            assert {path.stat().st_mode & 0o777 for path in below if path.is_file()} == {0o600}
            assert {path.stat().st_mode & 0o777 for path in below if path.is_dir()} == {0o700}

    async def test_a_block_made_by_hand_is_left_alone(self, rig: NginxRig) -> None:
        await rig.target.apply([fresh("a.example.com", 443)])
        text = "# by hand\n"
        block(rig, "hand.example.com").write_text(text)
        with pytest.raises(ApplyError, match="was not made by certcast") as caught:
            await rig.target.apply([fresh("hand.example.com", 443)])
        assert caught.value.culprit == ("hand.example.com", 443)
        await rig.restart_agent()
        assert block(rig, "hand.example.com").read_text() == text

    async def test_a_block_deleted_by_hand_is_no_longer_installed_and_comes_back(self, rig: NginxRig) -> None:
        change = fresh("a.example.com", 443)
        await rig.target.apply([change])
        block(rig, "a.example.com").unlink()
        assert await rig.target.current() == frozenset()
        (result,) = await install(rig.target, [change], rig.probe)
        assert result.outcome is Outcome.LIVE
        assert block(rig, "a.example.com").exists()

    async def test_a_new_template_is_put_in_force_for_every_host_by_the_next_start(
        self, rig: NginxRig, tmp_path: Path
    ) -> None:
        hosts = ("a.example.com", "b.example.com")
        changes = {host: fresh(host, 443) for host in hosts}
        await rig.target.apply(list(changes.values()))
        (tmp_path / "body.j2").write_text('location / { return 200 "{{ host }} of {{ site }}"; }\n')
        await rig.restart_agent(CERTCAST_NGINX_TEMPLATE=str(tmp_path / "body.j2"))
        for host in hosts:
            await expect(rig, 443, {host: changes[host]})
            async with visiting(endpoint(rig, 443), host) as (visitor,):
                assert (await visitor.get()).body.decode() == f"{host} of "

    async def test_a_site_that_is_no_plain_word_never_reaches_a_template(self, rig: NginxRig) -> None:
        hostile = replace(fresh("a.example.com", 443), site='x"; } nonsense {')
        (result,) = await install(rig.target, [hostile], rig.probe)
        assert result.outcome is Outcome.REFUSED
        assert "SiteName" in result.reason
