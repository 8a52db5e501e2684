"""A block that a form of the UI has saved is the block of what a person gave, and of nothing that nobody gave."""

import socket
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.blocks.core import Block
from prefect_aws import AwsCredentials, MinIOCredentials
from pydantic import SecretStr, ValidationError

import blocks
from blocks import EvidenceStore, Fleet, SigningKey, Workload
from blocks.store import with_usable_key
from tasks.custody.incident.description import recognisable
from tasks.prestart.known_run import KnownRun

EVERY: list[type[Block]] = [getattr(blocks, name) for name in blocks.__all__]
GIVEN: dict[type[Block], dict[str, Any]] = {
    Workload: {"host": "gpu1", "root": "/srv/portfolio"},
    EvidenceStore: {"bucket": "s3://evidence/portfolio"},
    SigningKey: {"key_file": "/etc/evacuation/signing.key", "identity": "evacuation@gpu1"},
    Fleet: {"store": "fleet", "workloads": ["gpu1"]},
}
"""The fewest fields by which a person makes one."""
EMPTY: tuple[Any, ...] = ("", None, {}, [])
LEFT = [(kind, name) for kind in EVERY for name in kind.model_fields if name not in GIVEN[kind]]
"""What is left open: each field of each block, drawn from the blocks themselves."""
KEYS = {"minio_root_user": "u", "minio_root_password": "p", "aws_client_parameters": {"use_ssl": True}}


def made(kind: type[Block], **fields: Any) -> Block:
    """The block of a file, or of Python."""
    return kind(**(GIVEN[kind] | fields))


def read(kind: type[Block], **fields: Any) -> Block:
    """The block of a document that a form has saved."""
    return kind.model_validate(GIVEN[kind] | fields)


def is_value(kind: type[Block], name: str, empty: Any) -> bool:
    """Whether an empty value says something in this field of a file, as "" for model_at."""
    try:
        return bool(made(kind, **{name: empty}))
    except ValidationError:
        return False


@pytest.mark.parametrize("kind", EVERY)
def test_a_block_of_the_fewest_fields_is_the_same_from_a_form_and_from_a_file(kind: type[Block]) -> None:
    assert GIVEN.keys() == set(EVERY)
    assert read(kind) == made(kind)


@pytest.mark.parametrize(("kind", "name"), LEFT)
@pytest.mark.parametrize("empty", EMPTY, ids=repr)
def test_an_empty_value_is_what_the_field_takes_it_for_or_nothing(kind: type[Block], name: str, empty: Any) -> None:
    if empty == {} and kind.annotation_refers_to_block_class(kind.model_fields[name].annotation):
        assert getattr(read(kind, **{name: empty}), name) is None
    else:
        meant = {name: empty} if is_value(kind, name, empty) else {}
        assert read(kind, **{name: empty}) == made(kind, **meant)


@given(st.data())
def test_whatever_a_person_has_cleared_together_the_block_can_be_read(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(EVERY))
    open_fields = [name for each, name in LEFT if each is kind]
    cleared = data.draw(st.dictionaries(st.sampled_from(open_fields), st.sampled_from(EMPTY)))
    document = GIVEN[kind] | cleared
    before = repr(document)
    assert all(getattr(read(kind, **cleared), name) for name in GIVEN[kind])
    assert repr(document) == before


@pytest.mark.parametrize("kind", EVERY)
def test_a_form_asks_for_what_a_block_cannot_do_without(kind: type[Block]) -> None:
    asked = kind.model_json_schema().get("required", [])
    assert set(asked) <= GIVEN[kind].keys()
    for name, empty in product(asked, [*EMPTY, ...]):
        document = {each: value for each, value in GIVEN[kind].items() if each != name}
        with pytest.raises(ValidationError) as refused:
            kind.model_validate(document if empty is ... else document | {name: empty})
        assert {error["loc"][0] for error in refused.value.errors()} == {name}


def test_the_host_is_asked_for_by_the_form_and_is_this_machine_in_a_file() -> None:
    assert Workload.model_json_schema()["required"] == ["host", "root"]
    assert Workload(root="/srv/portfolio").host == socket.gethostname()
    assert Workload.model_validate({"root": "/srv/portfolio", "host": "gpu1"}).host == "gpu1"


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Workload, {"api_pattern": ".*"}),
        (Workload, {"grace_seconds": 0}),
        (Workload, {"logs": [""]}),
        (EvidenceStore, {"endpoint": "minio"}),
        (EvidenceStore, {"signing": {"identity": "a b", "key_file": "/k"}}),
        (EvidenceStore, {"lock": "governance"}),
        (Fleet, {"unanswered": "wait"}),
    ],
)
def test_a_wrong_value_is_refused_as_ever(kind: type[Block], wrong: dict[str, Any]) -> None:
    for make in (made, read):
        with pytest.raises(ValidationError):
            make(kind, **wrong)


def test_a_file_in_which_somebody_wrote_an_empty_value_is_still_refused() -> None:
    for name in ("api_pattern", "lock", "grace_seconds"):
        with pytest.raises(ValidationError):
            made(Workload, **{name: "" if name != "grace_seconds" else None})


def test_a_store_of_which_only_the_bucket_was_given_has_no_promoter_and_no_key_that_cannot_be_used() -> None:
    sent = {"bucket": "s3://evidence/p", "credentials": {}, "promoter": {}, "legal_hold": False, "signing": {}}
    store, problem = with_usable_key(sent)
    assert (store.place, store.credentials, store.promoter, store.signing) == ("s3://evidence/p", None, None, None)
    assert problem == ""
    assert sent["signing"] == {}


def test_the_key_of_a_store_may_have_fields_that_nobody_filled() -> None:
    signing = {"identity": "evacuation@gpu1", "key_file": "/k", "private_key": None, "passphrase": ""}
    store = EvidenceStore.model_validate({"bucket": "evidence", "signing": signing})
    assert store.signing
    assert (str(store.signing.key_file), store.signing.private_key) == ("/k", SecretStr(""))


@pytest.mark.parametrize("field", ["credentials", "promoter"])
def test_aws_comes_first_and_credentials_of_minio_stay_theirs(field: str) -> None:
    kinds = EvidenceStore.model_json_schema()["properties"][field]["anyOf"]
    assert [each.get("$ref", "").rpartition("/")[2] for each in kinds] == ["AwsCredentials", "MinIOCredentials", ""]
    store = EvidenceStore.model_validate({"bucket": "evidence", "endpoint": "http://minio:9000", field: KEYS})
    assert isinstance(getattr(store, field), MinIOCredentials)
    for keys in ({"aws_access_key_id": "a"}, {"aws_client_parameters": {"use_ssl": True}}):
        store = EvidenceStore.model_validate({"bucket": "evidence", field: keys})
        assert isinstance(getattr(store, field), AwsCredentials)


@pytest.mark.parametrize("kind", EVERY)
def test_each_field_of_a_form_has_a_name(kind: type[Block]) -> None:
    assert [name for name, field in kind.model_json_schema()["properties"].items() if not field.get("title")] == []


def early(**fields: Any) -> dict[str, Any]:
    """What the start of a run, before Prefect is imported, knows of a workload that a form has saved."""
    document = {"data": GIVEN[Workload] | fields}
    return KnownRun("one", lambda _: document, {"run": {"parameters": {"workload": "w"}}}).fields


@pytest.mark.parametrize("name", [*recognisable(GIVEN[Workload], ""), "alarm_max_age", "fallback_dir"])
@pytest.mark.parametrize("empty", [..., *EMPTY], ids=repr)
def test_the_early_freeze_knows_a_workload_as_its_block_does(name: str, empty: Any) -> None:
    if name not in GIVEN[Workload]:
        fields = {} if empty is ... else {name: empty}
        block, known = read(Workload, **fields), early(**fields)
        assert known.get(name) == (getattr(block, name) if name in recognisable(GIVEN[Workload], "") else None)


@pytest.mark.parametrize("wrong", [{"api_pattern": ".*"}, {"host": ""}, {"root": ""}])
def test_what_the_block_refuses_is_not_frozen_early(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(Workload, **wrong)
    with pytest.raises((ValueError, KeyError)):
        early(**wrong)
