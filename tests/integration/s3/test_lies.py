"""A store that says something else than it did, and files that become something else while they are sent."""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from blocks.s3.store import S3Store
from tasks.custody.errors import Tampered
from tasks.custody.evidence.acquisition import IN_PLACE
from tasks.custody.evidence.keys import evidence_key
from tasks.custody.evidence.part_sizes import Parts
from tasks.evidence.seal import read_manifest
from tasks.runtime.context import RunContext
from tests.integration.s3.conftest import LARGE, MIB
from tests.integration.s3.proxy import Proxy, Rule, lie, meanwhile
from tests.support.deliveries import bad, proven, run_of, sent
from tests.support.run_context import INCIDENT
from tests.support.small_disks import fill, small_disk
from tests.support.workloads import SmallWorkload

Door = Callable[[], S3Store]
STREAMED = "models/model_streamed.joblib"
SMALL = "logs/train-07.log"
CHECKSUM = "x-amz-checksum-sha256"


def another(said: str) -> str:
    """A digest that is as long, of as many parts if it is one of parts."""
    return ("B" if said[0] == "A" else "A") + said[1:]


@pytest.mark.whole
@pytest.mark.parametrize("name", [SMALL, STREAMED, LARGE])
def test_a_digest_that_is_not_ours_is_never_proven(laden: SmallWorkload, door: Door, proxy: Proxy, name: str) -> None:
    with run_of(laden, door()) as (context, seals):
        sent(context, seals)
        proxy.rules = [Rule(lie(CHECKSUM, another), "HEAD", f"/evidence/{name}", times=2)]
        (found,) = bad(proven(context, seals))
        assert found.key == evidence_key(INCIDENT, 1, name)
        assert "the store says" in found.reason
        proxy.rules = []
        sent(context, seals)
        assert proven(context, seals).is_complete


@pytest.mark.whole
def test_a_digest_that_is_not_told_is_made_up_for_by_reading_back(
    laden: SmallWorkload, door: Door, proxy: Proxy
) -> None:
    with run_of(laden, door()) as (context, seals):
        sent(context, seals)
        proxy.rules = [Rule(lie(CHECKSUM, lambda _: ""), "HEAD", f"/evidence/{LARGE}", times=2)]
        receipts = proven(context, seals)
        assert receipts.is_complete
        assert [each.key for each in receipts.objects if each.read] == [evidence_key(INCIDENT, 1, LARGE)]


def change(path: Path, how: str) -> None:
    """Somebody does this to a file."""
    if how == "removed":
        path.unlink()
    else:
        os.truncate(path, MIB if how == "truncated" else path.stat().st_size + MIB)


@pytest.mark.whole
@pytest.mark.sample(1)
@pytest.mark.parametrize("name", [STREAMED, LARGE])
def test_sealed_evidence_that_is_cut_short_while_it_is_sent_is_not_stored_at_all(
    laden: SmallWorkload, door: Door, proxy: Proxy, name: str
) -> None:
    content, began = (laden.root / name).read_bytes(), time.monotonic()
    with run_of(laden, door()) as (context, seals):
        path = context.directory.evidence_dir(1) / name
        proxy.rules = [Rule(meanwhile(lambda: change(path, "truncated")), path=f"/evidence/{name}")]
        with pytest.raises(Tampered, match=name):
            sent(context, seals)
        assert time.monotonic() - began < 30
        assert context.store.evidence.head(evidence_key(INCIDENT, 1, name)) is None
        path.write_bytes(content)
        sent(context, seals)
        assert proven(context, seals, read_back=True).is_complete


@pytest.mark.whole
@pytest.mark.parametrize("how", ["grown", "removed"])
def test_sealed_evidence_that_grows_or_goes_while_it_is_sent_is_stored_as_sealed(
    laden: SmallWorkload, door: Door, proxy: Proxy, how: str
) -> None:
    with run_of(laden, door()) as (context, seals):
        for name in (STREAMED, LARGE):
            act = meanwhile(partial(change, context.directory.evidence_dir(1) / name, how))
            proxy.rules.append(Rule(act, path=f"/evidence/{name}"))
        sent(context, seals)
        for name in (STREAMED, LARGE):
            assert context.store.evidence.ensure_present(evidence_key(INCIDENT, 1, name), *_sealed(context, name))
    assert not [rule for rule in proxy.rules if rule.times]


def _sealed(context: RunContext, name: str) -> tuple[str, Parts | None]:
    return next((file.sha256, file.parts) for file in read_manifest(context.directory, 1).files if file.stored == name)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "evidence disk", 14) as mounted:
        yield mounted


@pytest.mark.short(1)
@pytest.mark.parametrize(("how", "lost"), [("truncated", True), ("grown", False), ("removed", False)])
def test_a_file_without_room_for_a_copy_that_changes_while_it_is_sent_is_proven_as_sealed_or_lost_and_said(  # noqa: PLR0913
    laden: SmallWorkload, door: Door, proxy: Proxy, disk: Path, how: str, *, lost: bool
) -> None:
    with run_of(laden, door(), evidence_dir=disk / "incidents", reserve_mb=1) as (context, seals):
        assert (
            next(file for file in read_manifest(context.directory, 1).files if file.stored == LARGE).where == IN_PLACE
        )
        proxy.rules = [Rule(meanwhile(lambda: change(laden.root / LARGE, how)), path=f"/evidence/{LARGE}")]
        sent(context, seals)
        receipts = proven(context, seals)
        assert {each.key for each in bad(receipts)} == (
            {evidence_key(INCIDENT, 1, LARGE), f"snapshots/{context.incident.snapshot}/{LARGE}"} if lost else set()
        )
        assert all(each.lost for each in bad(receipts))


def test_a_host_whose_disk_fills_up_after_the_seal_sends_everything(
    laden: SmallWorkload, door: Door, tmp_path: Path
) -> None:
    with (
        small_disk(tmp_path / "evidence disk", 40) as disk,
        run_of(laden, door(), evidence_dir=disk / "incidents", reserve_mb=1) as (context, seals),
    ):
        fill(disk)
        sent(context, seals)
        assert proven(context, seals, read_back=True).is_complete
