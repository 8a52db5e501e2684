"""A store is believed for what it was seen to do: a server that keeps each promise or not, in all combinations."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from prefect_aws import AwsCredentials

from blocks.s3 import store as s3
from blocks.s3.parts import base64_of
from blocks.s3.store import S3Store
from tasks.custody.errors import Conflict
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.keys import evidence_key
from tasks.custody.evidence.part_sizes import Parts, divide
from tasks.custody.store import promises
from tasks.custody.store.latest import ObjectRef
from tasks.custody.store.objects import Expected
from tasks.custody.store.promises import CreationWay, Promises
from tasks.custody.store.retention import NOTHING, Retention
from tasks.drill.store_and_worker import SeaweedFS
from tasks.latest.history import at_key
from tasks.storage.verify_object import prove
from tests.integration.s3.forgetful import (
    Forgetful,
    ask_for_an_algorithm,
    compare_with_the_source,
    keep_no_lock,
    know_no_condition,
    take_it_unread,
)
from tests.integration.s3.proxy import Exchange, Proxy, Rule, lose_the_answer, refuse
from tests.support.run_context import INCIDENT, case_of
from tests.support.workloads import SmallWorkload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def keeps(kept: str) -> Promises:
    """The promises in their order, "1" for each that is kept."""
    refuses, tells, puts, copies, parts = (each == "1" for each in kept)
    return Promises(refuses, tells, puts, copies, parts)


ALL = [keeps("".join(kept)) for kept in product("10", repeat=5)]
PAIRS = [keeps(kept) for kept in ("11111", "10000", "01011", "00101", "01100", "10110")]
"""Each two promises in all four ways; and `ALL` is soak."""
COMBINATIONS = [pytest.param(PAIRS, id="pairs"), pytest.param(ALL, marks=pytest.mark.soak, id="all")]
STREAMED, ONE_REQUEST = 1000, 2000
SIZES = {"small": 100, "streamed": 1500, "divided": 1800, "too large for one request": 3000}


@dataclass
class Place:
    """One bucket behind a forgetful door, and its owner's own client, who goes past it."""

    door: Forgetful
    bucket: str
    owner: "S3Client"
    credentials: AwsCredentials

    def store(self, kept: Promises, asked: Retention = NOTHING) -> S3Store:
        """An empty store that keeps so much."""
        self.door.kept = kept
        prefix, endpoint = uuid4().hex, self.door.endpoint
        return S3Store(self.bucket, prefix, credentials=self.credentials, endpoint=endpoint, retention=asked)

    def forge(self, store: S3Store, key: str, data: bytes, claimed: str) -> None:
        """Put other bytes there, of which a store that compares no digest claims that they have this one."""
        name = f"{store.place.removeprefix(f's3://{self.bucket}/')}/{key}"
        self.owner.put_object(Bucket=self.bucket, Key=name, Body=data)
        self.door.said[f"/{self.bucket}/{name}"] = base64_of(claimed)


@dataclass(frozen=True)
class Content:
    """A file, its digest, and its parts if it is sent in such."""

    path: Path
    data: bytes
    sha256: str
    parts: Parts | None

    def create(self, store: S3Store, key: str) -> None:
        """As an offload does."""
        store.create(key, self.path, self.sha256, self.parts)

    def copy(self, store: S3Store, source: str, key: str) -> None:
        """As a snapshot is filled."""
        store.copy(source, key, self.sha256, self.parts)


@pytest.fixture(params=["no versions", pytest.param("versions", marks=pytest.mark.soak)])
def place(request: pytest.FixtureRequest, seaweed: SeaweedFS, credentials: AwsCredentials) -> Iterator[Place]:
    owner = credentials.get_boto3_session().client("s3", endpoint_url=seaweed.endpoint)
    bucket = f"promises-{uuid4().hex[:8]}"
    owner.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=request.param == "versions")
    keys = credentials.get_boto3_session().get_credentials()
    assert keys is not None
    with Forgetful(seaweed.endpoint, keys=keys.get_frozen_credentials()) as door:
        yield Place(door, bucket, owner, credentials)
    owner.close()


@pytest.fixture
def contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Content, Content]]:
    """Two of each size."""
    monkeypatch.setattr(s3, "STREAM_ABOVE", STREAMED)
    monkeypatch.setattr(promises, "ONE_REQUEST", ONE_REQUEST)
    return [(content(tmp_path, size, b"a"), content(tmp_path, size, b"b")) for size in SIZES.values()]


def content(folder: Path, size: int, letter: bytes) -> Content:
    path, data = folder / f"{letter.decode()}{size}", letter * size
    path.write_bytes(data)
    sha256, parts = divide(path, size, size)
    return Content(path, data, sha256, parts if size > SIZES["streamed"] else None)


def somebody_is_quicker(monkeypatch: pytest.MonkeyPatch, store: S3Store) -> None:
    """The next look finds nothing, and then there is something."""
    real, looks = store.ensure_present, [False]
    monkeypatch.setattr(store, "ensure_present", lambda *args: looks.pop() if looks else real(*args))


@pytest.mark.parametrize("combinations", COMBINATIONS)
def test_what_a_server_keeps_is_seen_and_nothing_of_it_is_left_to_trust(
    place: Place, combinations: list[Promises]
) -> None:
    for kept in combinations:
        store = place.store(kept)
        assert store.promises() == kept
        assert bool(store.promises().notes) == (kept != promises.KEPT)
        assert list(store.list("")) == []


@pytest.mark.whole
@pytest.mark.parametrize("combinations", COMBINATIONS)
def test_nothing_is_overwritten_and_the_same_content_is_done_whatever_is_kept(
    place: Place, contents: list[tuple[Content, Content]], combinations: list[Promises]
) -> None:
    for kept in combinations:
        store = place.store(kept)
        for number, (ours, theirs) in enumerate(contents):
            theirs.create(store, f"theirs/{number}")
            for _ in "12":
                ours.create(store, f"sent/{number}")
                store.copy(f"sent/{number}", f"copied/{number}", ours.sha256, ours.parts)
            for key in (f"sent/{number}", f"copied/{number}"):
                with pytest.raises(Conflict):
                    theirs.create(store, key)
                with pytest.raises(Conflict):
                    store.copy(f"theirs/{number}", key, theirs.sha256, theirs.parts)
                assert store.ensure_present(key, ours.sha256, ours.parts)
                assert at_key(store, key, ObjectRef(ours.sha256, len(ours.data), key, ours.parts)).proven
                assert b"".join(store.stream(key)) == ours.data
            store.copy(f"theirs/{number}", f"latest/{number}", theirs.sha256, theirs.parts, replace=True)
            store.copy(f"sent/{number}", f"latest/{number}", ours.sha256, ours.parts, replace=True)
            with pytest.raises(Conflict):
                store.remove(f"latest/{number}", theirs.sha256, theirs.parts)
            store.remove(f"latest/{number}", ours.sha256, ours.parts)
        assert [each for each in (store.count_versions("") or {}) if not each.startswith("latest/")] == []


@pytest.mark.whole
@pytest.mark.parametrize("place", [pytest.param("no versions", marks=pytest.mark.soak), "versions"], indirect=True)
@pytest.mark.parametrize("combinations", COMBINATIONS)
def test_a_race_overwrites_only_where_the_receipt_does_not_say_exclusive_and_versions_tell_of_it(
    place: Place,
    contents: list[tuple[Content, Content]],
    combinations: list[Promises],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for kept in combinations:
        store = place.store(kept)
        for number, (ours, theirs) in enumerate(contents):
            divided, size = ours.parts is not None, len(ours.data)
            ours.create(store, f"ours/{number}")
            for copied in (False, True):
                key = f"{copied}/{number}"
                theirs.create(store, key)
                looked = kept.way(size, divided=divided, copied=copied) is CreationWay.LOOKED
                if looked and store.count_versions("") is None:
                    assert not kept.exclusive(size, divided=divided)
                    continue
                with monkeypatch.context() as patch:
                    if looked or (not copied and size > STREAMED):
                        somebody_is_quicker(patch, store)
                    with pytest.raises(Conflict):
                        store.copy(f"ours/{number}", key, ours.sha256, ours.parts) if copied else ours.create(
                            store, key
                        )
                assert ((store.count_versions(key) or {}).get(key, 1) > 1) == looked


@pytest.mark.parametrize("place", ["versions"], indirect=True)
def test_our_own_put_that_was_repeated_is_no_stranger_and_a_strangers_version_is_named_on_every_run(
    place: Place, contents: list[tuple[Content, Content]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kept, sizes in (("11000", 1), ("00000", 2)):
        store = place.store(keeps(kept))
        store.promises()
        for number, (ours, theirs) in enumerate(contents[:sizes]):
            place.door.rules = [Rule(lose_the_answer, "PUT", f"ours/{number}$")]
            ours.create(store, f"ours/{number}")
            ours.create(store, f"ours/{number}")
            place.door.rules = [Rule(lose_the_answer, "PUT", f"copied/{number}$")]
            ours.copy(store, f"ours/{number}", f"copied/{number}")
            ours.copy(store, f"ours/{number}", f"copied/{number}")
            theirs.create(store, f"both/{number}")
            with monkeypatch.context() as patch:
                somebody_is_quicker(patch, store)
                with pytest.raises(Conflict, match="version"):
                    ours.create(store, f"both/{number}")
            with pytest.raises(Conflict, match="version"):
                ours.create(store, f"both/{number}")
        assert (store.count_versions("ours/0") or {}) == {"ours/0": 2}


def of(stored: str, sha256: str, size: int, parts: Parts | None = None) -> Expected:
    return Expected(evidence_key(INCIDENT, 1, ""), StoredFile(stored, "", size, sha256, parts=parts))


@pytest.mark.whole
@pytest.mark.parametrize("combinations", COMBINATIONS)
def test_no_receipt_is_proven_of_other_bytes_whatever_the_store_claims(
    place: Place, contents: list[tuple[Content, Content]], combinations: list[Promises], small: SmallWorkload
) -> None:
    for kept in combinations:
        store = place.store(kept)
        with case_of(small.block(), store) as context:
            for number, (ours, theirs) in enumerate(contents):
                key = evidence_key(INCIDENT, 1, f"logs/{number}")
                ours.create(store, key)
                item = of(f"logs/{number}", ours.sha256, len(ours.data), ours.parts)
                receipt = prove(context.store, context.incident, item)
                assert receipt.proven
                assert receipt.read or kept.digests
                assert receipt.exclusive == kept.exclusive(len(ours.data), divided=ours.parts is not None)
                place.forge(store, key, theirs.data, claimed=ours.sha256)
                assert not prove(context.store, context.incident, item).proven
                with pytest.raises(Conflict):
                    ours.create(store, key)


KNOWS_NONE = {
    "of a copy": ("PUT", "canary/one$", 2, keeps("11101")),
    "of parts": ("POST", "canary/one", 0, keeps("11110")),
    "of anything": ("PUT|POST", "canary/", 0, keeps("11000")),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("status", [400, 501])
@pytest.mark.parametrize(("method", "path", "skip", "kept"), KNOWS_NONE.values(), ids=KNOWS_NONE)
def test_a_store_that_answers_a_condition_with_an_error_is_used_without_it(  # noqa: PLR0913, PLR0917  a table's columns
    place: Place,
    contents: list[tuple[Content, Content]],
    status: int,
    method: str,
    path: str,
    skip: int,
    kept: Promises,
) -> None:
    store = place.store(promises.KEPT)
    refused = know_no_condition(status)
    place.door.rules = [Rule(refused, method, path, skip=skip, times=99)]
    assert store.promises() == replace(kept, rejects=True)
    if kept.puts:
        return
    place.door.rules = [Rule(refused, "PUT|POST", times=10**6, path="")]
    for number, (ours, theirs) in enumerate(contents):
        for _ in "12":
            ours.create(store, f"sent/{number}")
            ours.copy(store, f"sent/{number}", f"copied/{number}")
        for key in (f"sent/{number}", f"copied/{number}"):
            with pytest.raises(Conflict):
                theirs.create(store, key)
            assert b"".join(store.stream(key)) == ours.data


@pytest.mark.parametrize("place", ["no versions"], indirect=True)
def test_a_condition_that_a_store_compares_with_the_source_of_a_copy_is_not_believed_to_be_kept(
    place: Place, contents: list[tuple[Content, Content]]
) -> None:
    """It refused every copy, and the key was believed to be taken: no incident ended Verified there."""
    store = place.store(promises.KEPT)
    place.door.rules = [Rule(compare_with_the_source, "PUT", "canary/|", times=10**6)]
    assert store.promises() == replace(promises.KEPT, copies=False)
    assert any("condition on copies" in note for note in store.promises().notes)
    for number, (ours, theirs) in enumerate(contents[:3]):
        ours.create(store, f"sent/{number}")
        theirs.create(store, f"theirs/{number}")
        for _ in "12":
            ours.copy(store, f"sent/{number}", f"copied/{number}")
        with pytest.raises(Conflict):
            theirs.copy(store, f"theirs/{number}", f"copied/{number}")
        assert b"".join(store.stream(f"copied/{number}")) == ours.data


@pytest.mark.parametrize("place", ["versions"], indirect=True)
def test_whether_a_bucket_keeps_versions_is_asked_once(place: Place, contents: list[tuple[Content, Content]]) -> None:
    store = place.store(keeps("00000"))
    place.door.rules = [Rule(Exchange.pass_on, "GET", r"\?versioning$", times=99)]
    for number in range(5):
        contents[0][0].create(store, f"sent/{number}")
    assert place.door.rules[0].times == 98


@pytest.mark.parametrize("place", ["versions"], indirect=True)
def test_what_is_locked_names_how_it_is_to_be_compared(place: Place, contents: list[tuple[Content, Content]]) -> None:
    """Of a part too, and what was copied by sending it again: moto refuses them otherwise."""
    asked = Retention("governance", 3)
    for kept in (keeps("11111"), keeps("11101")):
        store = place.store(kept, asked)
        place.door.rules = [Rule(ask_for_an_algorithm, "PUT", "canary/|", times=10**6)]
        assert store.promises() == kept
        for number, (ours, _) in enumerate(contents):
            ours.create(store, f"sent/{number}")
            if not kept.copies:
                ours.copy(store, f"sent/{number}", f"copied/{number}")
            found = store.head(f"sent/{number}")
            assert found
            assert found.lock == "governance"
        place.door.rules = []


@pytest.mark.parametrize(("method", "path"), [("PUT", "canary/"), ("HEAD", "canary/"), ("PUT", "canary/locked")])
def test_where_the_canary_may_not_be_tried_a_lock_counts_as_it_is_told(
    method: str, path: str, small: SmallWorkload, seaweed: SeaweedFS, credentials: AwsCredentials
) -> None:
    asked = Retention("governance", 3)
    with Proxy(seaweed.endpoint, [Rule(refuse(403, "AccessDenied"), method, path, times=99)]) as door:
        bucket, owner = (
            f"promises-{uuid4().hex[:8]}",
            credentials.get_boto3_session().client("s3", endpoint_url=seaweed.endpoint),
        )
        owner.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        store = S3Store(bucket, "untried", credentials=credentials, endpoint=door.endpoint, retention=asked)
        assert store.promises().untried
        assert not any("ignores the condition" in note for note in store.promises().notes)
        with case_of(small.block(), store) as context:
            key, sha256 = evidence_key(INCIDENT, 1, "logs/a"), hashlib.sha256(b"a").hexdigest()
            store.create(key, b"a", sha256)
            assert prove(context.store, context.incident, of("logs/a", sha256, 1), asked).proven
            longer = prove(context.store, context.incident, of("logs/a", sha256, 1), Retention("governance", 9))
            assert "locked until" in longer.reason
        owner.close()


def test_a_digest_of_parts_counts_only_where_a_wrong_one_of_a_part_was_refused(
    place: Place, contents: list[tuple[Content, Content]], small: SmallWorkload
) -> None:
    key, (divided, _) = evidence_key(INCIDENT, 1, "logs/a"), contents[2]
    for rules, told in (([], True), ([Rule(take_it_unread, "PUT", r"canary/one\?")], False)):
        store = place.store(promises.KEPT)
        place.door.rules = rules
        assert store.promises() == replace(promises.KEPT, refuses_parts=told)
        with case_of(small.block(), store) as context:
            divided.create(store, key)
            receipt = prove(
                context.store, context.incident, of("logs/a", divided.sha256, len(divided.data), divided.parts)
            )
            assert receipt.proven
            assert receipt.read != told


@pytest.mark.parametrize("place", ["versions"], indirect=True)
def test_a_lock_that_is_told_and_not_kept_proves_nothing(place: Place, small: SmallWorkload) -> None:
    asked = Retention("governance", 3)
    assert place.store(promises.KEPT, asked).promises().locks
    place.door.rules = [Rule(keep_no_lock, "DELETE", "canary/locked", times=99)]
    store = place.store(promises.KEPT, asked)
    assert store.promises() == replace(promises.KEPT, locks=False)
    with case_of(small.block(), store) as context:
        key, sha256 = evidence_key(INCIDENT, 1, "logs/a"), hashlib.sha256(b"a").hexdigest()
        store.create(key, b"a", sha256)
        receipt = prove(context.store, context.incident, of("logs/a", sha256, 1), asked)
        assert not receipt.proven
        assert "keep a lock" in receipt.reason
