"""What every store promises, tried on each: S3 on a real server, a folder, and memory."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prefect_aws import AwsCredentials

from blocks.directory import DirectoryStore
from blocks.port import PIECE, Probed, Store, StoredObject
from blocks.s3 import store as s3
from blocks.s3.store import S3Store
from tasks.custody.errors import Conflict, PermanentStoreError
from tasks.custody.evidence.keys import evidence_key, stored_name
from tasks.custody.evidence.part_sizes import Parts, divide, part_size
from tasks.drill.store_and_worker import SeaweedFS
from tests.support.memory_store import MemoryStore

Maker = Callable[[], Store]
on_fixtures = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
sources = st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=3).map(b"/".join).filter(stored_name)


@pytest.fixture(scope="session")
def makers(
    seaweed: SeaweedFS, credentials: AwsCredentials, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Maker]:
    """Make an empty store of each kind, again and again."""

    def on_s3() -> Store:
        return S3Store(seaweed.bucket, uuid4().hex, credentials=credentials, endpoint=seaweed.endpoint)

    return {
        "s3": on_s3,
        "directory": lambda: DirectoryStore(tmp_path_factory.mktemp("a store")),
        "memory": MemoryStore,
    }


@pytest.fixture(params=["s3", "directory", "memory"])
def make(request: pytest.FixtureRequest, makers: dict[str, Maker]) -> Maker:
    return makers[request.param]


@pytest.fixture
def store(make: Maker) -> Store:
    return make()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def described(store: Store, key: str) -> StoredObject | None:
    """What the store says of an object; where it was seen to tell no digest that counts, with that of its bytes."""
    there = store.head(key)
    if there is None or store.promises().digests:
        return there
    assert (there.sha256, there.composite) == (None, "")
    return replace(there, sha256=sha(b"".join(store.stream(key))))


def put(store: Store, key: str, data: bytes) -> None:
    store.create(key, data, sha(data))


def test_what_is_created_can_be_looked_at_and_read(store: Store) -> None:
    put(store, "incidents/IR-1/evidence/a.txt", b"content")
    assert described(store, "incidents/IR-1/evidence/a.txt") == StoredObject(
        "incidents/IR-1/evidence/a.txt", 7, sha(b"content")
    )
    assert store.read("incidents/IR-1/evidence/a.txt") == b"content"


def test_a_file_is_stored_like_bytes(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "a file"
    source.write_bytes(b"from a file")
    store.create("file", source, sha(b"from a file"))
    assert store.read("file") == b"from a file"


def test_a_stream_gives_the_same_bytes_in_pieces_of_bounded_size(store: Store) -> None:
    data = b"piece" * 500_000
    put(store, "large", data)
    pieces = list(store.stream("large"))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= PIECE for piece in pieces) or isinstance(store, MemoryStore)
    with pytest.raises(PermanentStoreError, match="no/such"):
        list(store.stream("no/such"))


def test_a_bucket_that_keeps_versions_tells_what_was_overwritten_or_deleted(
    seaweed: SeaweedFS, credentials: AwsCredentials
) -> None:
    client = credentials.get_boto3_session().client("s3", endpoint_url=seaweed.endpoint)
    bucket = f"versions-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    store = S3Store(bucket, "team", credentials=credentials, endpoint=seaweed.endpoint)
    put(store, "before", b"1")
    assert store.count_versions("") is None
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store = S3Store(bucket, "team", credentials=credentials, endpoint=seaweed.endpoint)  # a run asks for that once
    for key in ("once", "twice", "gone", "other/twice"):
        put(store, key, b"1")
    client.put_object(Bucket=bucket, Key="team/twice", Body=b"2")
    client.put_object(Bucket=bucket, Key="team/other/twice", Body=b"2")
    client.delete_object(Bucket=bucket, Key="team/gone")
    assert store.count_versions("") == {"gone": 2, "other/twice": 2, "twice": 2}
    assert store.count_versions("other/") == {"other/twice": 2}
    client.close()


def test_an_empty_object_is_an_object(store: Store) -> None:
    put(store, "empty", b"")
    assert described(store, "empty") == StoredObject("empty", 0, sha(b""))
    assert store.read("empty") == b""


def test_nothing_is_none(store: Store) -> None:
    assert store.head("no/such") is None


def test_a_folder_of_keys_is_not_an_object(store: Store) -> None:
    put(store, "folder/inside", b"x")
    assert store.head("folder") is None
    with pytest.raises(PermanentStoreError):
        store.read("folder")


def test_reading_nothing_is_an_error_that_names_the_key(store: Store) -> None:
    with pytest.raises(PermanentStoreError, match="no/such"):
        store.read("no/such")


def test_the_same_content_again_is_done_already(store: Store) -> None:
    put(store, "twice", b"same")
    put(store, "twice", b"same")
    assert store.read("twice") == b"same"


def test_other_content_is_a_conflict_that_names_both_digests(store: Store) -> None:
    put(store, "taken", b"first")
    with pytest.raises(Conflict) as raised:
        put(store, "taken", b"second")
    assert sha(b"first") in str(raised.value)
    assert sha(b"second") in str(raised.value)
    assert store.read("taken") == b"first"


def test_content_that_differs_from_its_digest_is_refused(store: Store) -> None:
    with pytest.raises(PermanentStoreError, match=sha(b"expected")):
        store.create("wrong", b"changed", sha(b"expected"))
    assert store.head("wrong") is None


def test_a_source_that_is_gone_is_a_permanent_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PermanentStoreError, match="gone"):
        store.create("key", tmp_path / "gone", sha(b""))


def test_one_of_many_racing_creators_wins(store: Store) -> None:
    def race(number: int) -> bool:
        try:
            put(store, "claim", b"%d" % number)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(race, range(16))) == 1


def test_a_listing_is_sorted_complete_and_only_of_its_prefix(store: Store) -> None:
    keys = ["a/b", "a-b", "b", "a/a", "a.b"]
    for key in keys:
        put(store, key, key.encode())
    assert [found.key for found in store.list("")] == sorted(keys)
    assert [found.key for found in store.list("a/")] == sorted(key for key in keys if key.startswith("a/"))
    assert [found.size for found in store.list("a-")] == [3]
    assert list(store.list("none/")) == []


def test_a_listing_does_not_end_at_a_thousand(store: Store) -> None:
    keys = [f"many/{number:04d}" for number in range(1203)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: put(store, key, b"x"), keys))
    assert [found.key for found in store.list("many/")] == keys


def test_a_folder_tells_its_objects_and_the_folders_in_it(store: Store) -> None:
    for key in ("a/x", "a/b/x", "a/b/y", "a/c/d/x", "a-", "b/x"):
        put(store, key, key.encode())
    objects, folders = store.list_folder("a/")
    assert [(each.key, each.size) for each in objects] == [("a/x", 3)]
    assert list(folders) == ["a/b/", "a/c/"]
    assert tuple(map(list, store.list_folder("none/"))) == ([], [])
    assert isinstance(store, Probed)
    store.probe("host", b"told apart from what is kept")
    objects, folders = store.list_folder("")
    assert ([each.key for each in objects], list(folders)) == (["a-"], ["a/", "b/"])


def test_no_more_is_read_than_is_asked_for(store: Store) -> None:
    put(store, "key", b"<Error> is content like any other")
    assert store.read("key") == b"<Error> is content like any other"
    assert store.read("key", 7) == b"<Error>"
    assert store.read("key", 1 << 20) == store.read("key")
    put(store, "empty", b"")
    assert store.read("empty", 7) == b""


def test_a_copy_has_the_digest_of_its_source(store: Store) -> None:
    put(store, "incidents/a%25.bin", b"content")
    store.copy("incidents/a%25.bin", "snapshots/a%25.bin", sha(b"content"))
    assert described(store, "snapshots/a%25.bin") == StoredObject("snapshots/a%25.bin", 7, sha(b"content"))


def test_a_copy_never_overwrites_unless_told_to(store: Store) -> None:
    put(store, "old", b"old")
    put(store, "new", b"new")
    put(store, "latest/x", b"old")
    store.copy("old", "latest/x", sha(b"old"))
    with pytest.raises(Conflict) as raised:
        store.copy("new", "latest/x", sha(b"new"))
    assert sha(b"old") in str(raised.value)
    assert sha(b"new") in str(raised.value)
    store.copy("new", "latest/x", sha(b"new"), replace=True)
    assert described(store, "latest/x") == StoredObject("latest/x", 3, sha(b"new"))
    assert store.read("old") == b"old"


def test_only_latest_loses_an_object_and_only_the_content_that_is_named(store: Store) -> None:
    for key in ("latest/x", "latest/y", "incidents/x", "snapshots/x"):
        put(store, key, b"a")
    with pytest.raises(Conflict, match=sha(b"b")):
        store.remove("latest/x", sha(b"b"))
    for key in ("incidents/x", "snapshots/x", "latest", "latest/../snapshots/x"):
        with pytest.raises(PermanentStoreError):
            store.remove(key, sha(b"a"))
    store.remove("latest/x", sha(b"a"))
    store.remove("latest/x", sha(b"a"))
    assert [each.key for each in store.list("")] == ["incidents/x", "latest/y", "snapshots/x"]


def test_a_store_says_whether_it_holds_this_content(store: Store) -> None:
    assert not store.ensure_present("key", sha(b"content"))
    put(store, "key", b"content")
    assert store.ensure_present("key", sha(b"content"))
    with pytest.raises(Conflict) as raised:
        store.ensure_present("key", sha(b"other"))
    assert sha(b"content") in str(raised.value)
    assert sha(b"other") in str(raised.value)


def test_a_file_in_parts_is_the_same_object_in_every_store(store: Store, tmp_path: Path) -> None:
    source, size = tmp_path / "large", 5 << 20
    source.write_bytes(b"large" * size)
    sha256, parts = divide(source, size, 5 * size)
    told = list[int]()
    store.create("large", source, sha256, parts, told.append)
    store.create("large", source, sha256, parts)
    store.copy("large", "copy", sha256, parts)
    store.copy("large", "latest/large", sha256, parts, replace=True)
    for key in ("large", "copy", "latest/large"):
        there = described(store, key)
        assert there
        assert there.size == 5 * size
        assert there.agrees(sha256, parts)
        assert store.ensure_present(key, sha256, parts)
        assert not there.agrees(sha(b"other"), Parts(size, 5 * size, (sha(b"other"),)))
    assert sum(told) in {0, 5 * size}
    assert list(store.end_unfinished("incidents/IR-1/")) == []


def test_copying_nothing_is_an_error(store: Store) -> None:
    with pytest.raises(PermanentStoreError, match="no/such"):
        store.copy("no/such", "key", sha(b""))
    assert store.head("key") is None


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "a//b", "a/", "../a", "a/../../b", "a/./b", "a\nb", "a\0b", "ä", "a\\b"]
)
def test_a_key_that_could_lead_elsewhere_is_refused(store: Store, key: str) -> None:
    for act in (store.head, store.read, lambda key: put(store, key, b"x"), lambda key: store.copy("a", key, sha(b""))):
        with pytest.raises(PermanentStoreError):
            act(key)


@pytest.mark.short(1)
@on_fixtures
@given(source=sources, data=st.binary(max_size=50))
def test_any_stored_name_is_a_key_and_comes_back_byte_for_byte(make: Maker, source: bytes, data: bytes) -> None:
    store, key = make(), evidence_key("IR-1", 1, stored_name(source))
    put(store, key, data)
    assert [found.key for found in store.list("")] == [key]
    assert store.head(key) == StoredObject(key, len(data), sha(data))
    store.copy(key, f"copy/{key}", sha(data))
    assert store.read(f"copy/{key}") == data


def test_obstore_writes_the_key_that_boto3_lists(seaweed: SeaweedFS, credentials: AwsCredentials) -> None:
    prefix, name = uuid4().hex, "%E3%81%82/a%25b/%2E%2E/q~x/a=b+c d"
    store = S3Store(seaweed.bucket, prefix, credentials=credentials, endpoint=seaweed.endpoint)
    put(store, name, b"x")
    client = boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint,
        region_name="us-east-1",
        aws_access_key_id=seaweed.access_key,
        aws_secret_access_key=seaweed.secret_key,
    )
    listed = [item["Key"] for item in client.list_objects_v2(Bucket=seaweed.bucket, Prefix=prefix)["Contents"]]
    assert [key for key in listed if not key.startswith(f"{prefix}/.evacuation-canary/")] == [f"{prefix}/{name}"]


def test_a_large_file_is_streamed_under_the_same_contract(
    makers: dict[str, Maker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "STREAM_ABOVE", 1000)
    store, source = makers["s3"](), tmp_path / "large"
    source.write_bytes(b"large" * 1000)
    with pytest.raises(PermanentStoreError, match="BadDigest"):
        store.create("large", source, sha(b"other"))
    assert store.head("large") is None
    store.create("large", source, sha(source.read_bytes()))
    store.create("large", source, sha(source.read_bytes()))
    assert store.head("large") == StoredObject("large", 5000, sha(source.read_bytes()))
    source.write_bytes(b"other" * 1000)
    with pytest.raises(Conflict):
        store.create("large", source, sha(source.read_bytes()))


@pytest.mark.soak
def test_an_object_beyond_five_gib_is_stored_copied_and_proven(store: Store, tmp_path: Path) -> None:
    if isinstance(store, MemoryStore):
        pytest.skip("it holds objects in memory")
    source, total = tmp_path / "huge", (5 << 30) + 4097
    source.touch()
    os.truncate(source, total)
    with source.open("r+b") as file:
        file.seek(total - 3)
        file.write(b"end")
    sha256, parts = divide(source, part_size(total), total)
    store.create("huge", source, sha256, parts)
    store.copy("huge", "copy", sha256, parts)
    for key in ("huge", "copy"):
        assert store.ensure_present(key, sha256, parts)
        read = hashlib.sha256()
        for piece in store.stream(key):
            read.update(piece)
        assert read.hexdigest() == sha256


def test_a_folder_store_forgets_what_a_killed_run_has_half_written_and_nothing_of_others(tmp_path: Path) -> None:
    store, killed = DirectoryStore(tmp_path), "import os, sys; os.kill(os.getpid(), 9)"
    for incident in ("IR-1", "IR-2"):
        code = (
            "from pathlib import Path; import blocks.directory as d\n"
            f"def die(*_):\n    {killed}\n"
            "d.require_digest = die\n"
            f"d.DirectoryStore(Path({str(tmp_path)!r})).create('incidents/{incident}/evidence/a', b'x', 'y')"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert len(list((tmp_path / ".incoming").iterdir())) == 2
    assert list(store.end_unfinished("incidents/")) == []
    assert list(store.end_unfinished("incidents/IR-1/")) == ["incidents/IR-1/"]
    assert len(list((tmp_path / ".incoming").iterdir())) == 1


def test_a_folder_store_keeps_nothing_of_a_refused_object(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    with pytest.raises(PermanentStoreError):
        store.create("a/b", b"changed", sha(b"expected"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_store_is_never_made_where_a_mount_is_missing(tmp_path: Path) -> None:
    with pytest.raises(PermanentStoreError, match="mount"):
        put(DirectoryStore(tmp_path / "not mounted"), "key", b"x")


def test_a_folder_store_does_not_follow_links_or_show_its_own_names(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    put(store, "key", b"x")
    (tmp_path / "link").symlink_to("/etc/hostname")
    assert [found.key for found in store.list("")] == ["key"]
    assert store.head("link") is None
    with pytest.raises(PermanentStoreError):
        put(store, ".incoming/x", b"x")
