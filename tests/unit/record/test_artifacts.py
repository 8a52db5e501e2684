"""What the UI shows of a run: in the order of reading, the first page leads to the others, foreign text stays text."""

import re
from dataclasses import replace
from typing import Any

import pytest

from blocks.store import EvidenceStore
from tasks.custody.store.receipts import ObjectReceipt, Receipts
from tasks.record.artifacts import build_artifacts
from tasks.record.postmortem import postmortem
from tasks.runtime.artifact import PrefectArtifact
from tests.support.report_factory import story

READ = ["verdict", "manifest", "receipts", "timeline", "postmortem"]
HOSTILE = "x](http://evil.example) | <img src=http://evil.example/x>"


def shown(text: str = "a reason", **changes: Any) -> dict[str, PrefectArtifact]:
    told = story(text, **changes)
    return {leaf.key.partition("-")[0]: leaf for leaf in build_artifacts(told, postmortem(told))}


def content(name: str, **changes: Any) -> str:
    return str(shown(**changes)[name].content)


@pytest.mark.parametrize(("dry_run", "names"), [(False, READ), (True, ["verdict", "plan", *READ[1:]])])
def test_the_leaves_are_numbered_as_they_are_read_and_the_first_leads_to_the_others(
    dry_run: bool,  # noqa: FBT001  pytest gives it by name
    names: list[str],
) -> None:
    found = shown(dry_run=dry_run)
    assert list(found) == names
    assert [leaf.description.partition(" · ")[0] for leaf in found.values()] == [
        str(n) for n in range(1, len(names) + 1)
    ]
    links = re.findall(r"\]\(/artifacts/key/([a-z]+)-ir-20260102t150405z\)", str(found["verdict"].content))
    assert links == names[1:]


def test_what_was_shown_before_is_led_to_by_its_own_id() -> None:
    led = shown()["verdict"].linked_to({"timeline-ir-20260102t150405z": "some-id"})
    assert "](/artifacts/artifact/some-id)" in led.content
    assert "](/artifacts/key/receipts-ir-20260102t150405z)" in led.content


def test_the_verdict_says_what_is_safe_what_is_missing_what_to_do_and_where_it_lies() -> None:
    text = content("verdict")
    for words in ("安全 / safe", "欠落 / missing", "次の操作 / next", "保全先 / in the store", "**PARTIAL**"):
        assert words in text


def test_why_the_word_is_not_green_stands_under_it_before_all_else() -> None:
    text = content("verdict")
    places = [
        text.index(words) for words in ("**PARTIAL**", "欠落 / missing", "理由 / reason", "安全 / safe", "次の操作")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize(("block", "said"), [({"bucket": "b2c"}, True), ({"folder": "/srv/evidence"}, False)])
def test_links_that_ask_for_credentials_say_so(
    block: dict[str, Any],
    said: bool,  # noqa: FBT001  pytest gives it by name
) -> None:
    places = replace(story().places, address=EvidenceStore(**block).address)
    assert ("ask for the store's credentials" in content("verdict", places=places)) is said


def test_a_rehearsal_points_to_nothing_in_the_store() -> None:
    assert "in the store" not in content("verdict", dry_run=True)


def test_what_the_store_did_not_prove_comes_first_and_every_object_is_a_link() -> None:
    told = story()
    proven = ObjectReceipt("incidents/a", "0" * 64, 1, proven=True)
    bad = ObjectReceipt("incidents/b%20c", "1" * 64, 2, proven=False, reason="gone")
    store = EvidenceStore(bucket="s3://bucket/prefix", endpoint="http://127.0.0.1:1")
    text = content("receipts", proven=Receipts((proven, bad)), places=replace(told.places, address=store.address))
    first, second = (line for line in text.splitlines() if "incidents/" in line)
    assert first.startswith("| ✖ **unproven**")
    assert "| [incidents/b%20c](http://127.0.0.1:1/bucket/prefix/incidents/b%2520c) | gone |" in first
    assert second.startswith("| ✔ **digest**")
    assert "| [incidents/a](http://127.0.0.1:1/bucket/prefix/incidents/a) |" in second


def test_nothing_foreign_becomes_a_link_or_a_picture() -> None:
    for name, leaf in shown(HOSTILE).items():
        pointed = re.findall(r"\]\((.*?)\)", re.sub(r"`[^`]*`", "", str(leaf.content)))
        assert all(each.startswith(("/artifacts/key/", "data:image/svg")) for each in pointed), name


@pytest.mark.parametrize(
    ("block", "address"),
    [
        ({"bucket": "b2c"}, "https://console.aws.amazon.com/s3/object/b2c?prefix=incidents/a%2520b"),
        ({"bucket": "s3://b2c/p"}, "https://console.aws.amazon.com/s3/object/b2c?prefix=p/incidents/a%2520b"),
        ({"bucket": "b2c", "endpoint": "http://h:9000"}, "http://h:9000/b2c/incidents/a%2520b"),
        ({"folder": "/srv/evidence"}, ""),
    ],
)
def test_an_object_is_found_where_its_store_shows_it(block: dict[str, Any], address: str) -> None:
    assert EvidenceStore(**block).address("incidents/a%20b") == address


def test_a_folder_of_the_store_is_opened_as_one() -> None:
    address = EvidenceStore(bucket="s3://b2c/p").address("incidents/IR-1/")
    assert address == "https://console.aws.amazon.com/s3/buckets/b2c?prefix=p/incidents/IR-1/"
