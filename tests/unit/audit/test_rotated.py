"""A key that names its successor in a closing of itself: what an audit believes of that, and of what it may not say."""

import json
import socket
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.signing_key import SigningKey
from flows.command.commands import invoke
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import Audit, AuditWord, Severity
from tasks.custody.audit.rotated import with_successors
from tasks.custody.audit.signers import read_signers
from tasks.custody.errors import PermanentStoreError, Refused
from tasks.custody.store.manifest import canonical
from tasks.custody.store.timestamp import stamped_at
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT
from tests.support.sealed_runs import evacuated
from tests.support.shown import blocks_of
from tests.support.time_authority import TimeAuthority
from tests.unit.audit.conftest import Objects
from tests.unit.audit.test_audit_laws import HOME, findings
from tests.unit.audit.test_roles import new_key

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDiuf0v7R0P9Pz7mNPl4k2Nu1FIV6pg1zvbGzuZs9yMq"
HERE = socket.gethostname()
LAST = f"{HOME}/record/002/closing.json"
Rotated = Callable[..., Audit]


def rotation(by: SigningKey, key: SigningKey, at: datetime, name: str = "1", **changes: Any) -> dict[str, bytes]:
    """What a store has of a key that `by` has named, at that time, as the next of this host."""
    closing = canonical({"host": HERE, "closed_utc": at.isoformat(), "next_key": key.public_key, **changes})
    folder = f"rotations/{HERE}/{name}"
    return {f"{folder}/closing.json": closing, f"{folder}/closing.json.sig": by.sign(closing)}


@pytest.fixture(scope="module")
def following() -> SigningKey:
    return new_key(f"evacuation@{HERE}")


@pytest.fixture(scope="module")
def carried_on(signing_key: SigningKey, following: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """An incident whose second run was signed by another key of the same host."""
    store = MemoryStore()
    evacuated(tmp_path_factory.mktemp("carried on") / "a", store, signing_key, then=[following])
    return Objects({each.key: store.read(each.key) for each in store.list("")})


@pytest.fixture(scope="module")
def between(carried_on: Objects) -> datetime:
    """A time after the old key's last document, and before the next key's first."""
    return datetime.fromisoformat(json.loads(carried_on[f"{HOME}/record/001/closing.json"])["closed_utc"])


@pytest.fixture
def audit(carried_on: Objects, holding: Callable[[dict[str, bytes]], MemoryStore], allowed: str) -> Rotated:
    """Audit the incident beside these rotations, as somebody who knows the old key, or these signers."""

    def audit(rotations: Mapping[str, bytes], signers: str = allowed) -> Audit:
        return verify_incident(holding({**carried_on, **rotations}), INCIDENT, read_signers(signers), deep=False)

    return audit


@pytest.mark.slow
def test_what_a_named_key_signs_is_believed_and_the_rotation_told(
    audit: Rotated, signing_key: SigningKey, following: SigningKey, between: datetime
) -> None:
    assert audit({}).word is AuditWord.BROKEN
    found = audit(rotation(signing_key, following, between))
    assert found.word is AuditWord.PROVEN, found.findings
    (told,) = found.findings
    names = f"{signing_key.fingerprint} names {following.fingerprint} as the next key of evacuation@{HERE}, from "
    assert (told.severity, told.what) == (Severity.NOTE, f"{names}{between}")
    assert following.fingerprint in found.signed


def test_a_chain_of_two_is_followed_in_the_order_of_its_times(
    audit: Rotated, signing_key: SigningKey, following: SigningKey, between: datetime
) -> None:
    middle = new_key(f"evacuation@{HERE}")
    first = rotation(signing_key, middle, between - timedelta(hours=1), "b")
    assert audit({**first, **rotation(middle, following, between, "a")}).word is AuditWord.PROVEN
    assert audit(rotation(middle, following, between, "a")).word is AuditWord.BROKEN
    early = rotation(middle, following, between - timedelta(hours=2), "a")  # the middle key did not count yet
    assert audit({**first, **early}).word is AuditWord.BROKEN


@pytest.mark.parametrize(
    ("signers", "changes", "why"),
    [
        ("evacuation@gpu2", {}, "its own signer is not allowed"),
        ("evacuation@gpu2", {"host": "gpu2"}, "next key of evacuation@gpu2"),
        ("people@example.net", {}, "its own signer is not allowed"),
        ("evacuation@gpu?", {"host": "gpu*"}, "counts for nothing"),
        ("evacuation@*", {"host": f"x,evacuation@{HERE}"}, "counts for nothing"),
        ("evacuation@*", {"host": ""}, "counts for nothing"),
    ],
)
def test_who_may_not_name_a_key_of_the_host_names_none(  # noqa: PLR0913, PLR0917  the table's columns
    audit: Rotated,
    following: SigningKey,
    between: datetime,
    allowed: str,
    signers: str,
    changes: dict[str, str],
    why: str,
) -> None:
    other = new_key("other@example.net")
    lines = f"{allowed}{signers} {other.public_key}\n"
    found = audit(rotation(other, following, between, **changes), lines)
    assert found.word is AuditWord.BROKEN
    assert why in findings(found, Severity.NOTE)[f"rotations/{HERE}/1/closing.json"]
    assert LAST.removeprefix(f"{HOME}/") in findings(found, Severity.BROKEN)


def test_a_rotation_of_another_host_replayed_here_names_no_key_of_this_one(
    audit: Rotated, signing_key: SigningKey, following: SigningKey, between: datetime
) -> None:
    both = f"evacuation@{HERE},evacuation@gpu2 {signing_key.public_key}\n"
    assert audit(rotation(signing_key, following, between, host="gpu2"), both).word is AuditWord.BROKEN
    assert audit(rotation(signing_key, following, between), both).word is AuditWord.PROVEN


@pytest.mark.parametrize(
    "change",
    [
        {"next_key": "ssh-ed25519 AAAA"},
        {"next_key": "\n"},
        {"next_key": 'valid-after="20200101" ssh-ed25519 AAAA'},
        {"next_key": "\ud800"},
        {"next_key": f"{KEY}\n*  {KEY}"},
        {"next_key": 7},
        {"closed_utc": "2026-01-01T00:00:00"},
        {"closed_utc": None},
    ],
    ids=repr,
)
def test_what_names_no_key_breaks_nothing(  # noqa: PLR0913, PLR0917  the table's columns
    objects: Objects,
    holding: Callable[[dict[str, bytes]], MemoryStore],
    signing_key: SigningKey,
    allowed: str,
    between: datetime,
    change: dict[str, Any],
) -> None:
    """Whoever may write to the store may put it there."""
    found = verify_incident(
        holding({**objects, **rotation(signing_key, signing_key, between, **change)}),
        INCIDENT,
        read_signers(allowed),
        deep=False,
    )
    assert found.word is AuditWord.PROVEN
    assert "it names no key, and counts for nothing" in found.findings[0].what


class Locked(MemoryStore):
    """It does not give what lies below another host's name."""

    def read(self, key: str, limit: int | None = None) -> bytes:
        """All but that."""
        if "/other/" in key:
            raise PermanentStoreError(key, "InvalidObjectState", "", "")
        return super().read(key, limit)


def test_what_others_have_put_beside_costs_no_audit_its_word(  # noqa: PLR0913, PLR0917  fixtures
    carried_on: Objects,
    signing_key: SigningKey,
    following: SigningKey,
    between: datetime,
    allowed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.storage.rotations._ROTATIONS_LIMIT", 9)
    store = Locked(json.loads(carried_on[f"{HOME}/record/001/closing.json"])["place"])
    mine = rotation(signing_key, following, between)
    planted = {f"rotations/!/{number}": b"x" for number in range(20)} | {"rotations/other/1/closing.json": b"{}"}
    store._objects.update({**carried_on, **mine, **planted})
    found = verify_incident(store, INCIDENT, read_signers(allowed), deep=False)
    assert found.word is AuditWord.INDETERMINATE  # for what else may be named there
    (cut,) = (each for each in found.findings if each.severity is Severity.OPEN)
    assert "more than 9 objects" in cut.what
    store._objects = {key: data for key, data in store._objects.items() if "/!/" not in key}
    found = verify_incident(store, INCIDENT, read_signers(allowed), deep=False)
    assert found.word is AuditWord.PROVEN, found.findings
    assert any("could not be read" in each.what for each in found.findings)


def test_a_closing_that_was_changed_or_is_unsigned_names_no_key(
    audit: Rotated, signing_key: SigningKey, following: SigningKey, between: datetime
) -> None:
    whole = rotation(signing_key, following, between)
    other = rotation(signing_key, new_key("x@y"), between)
    closing, signature = whole
    for rotations in ({closing: whole[closing]}, {**whole, closing: other[closing]}, {**whole, signature: b""}):
        found = audit(rotations)
        assert found.word is AuditWord.BROKEN
        assert "counts for nothing" in findings(found, Severity.NOTE)[closing]


def test_the_next_key_counts_only_from_its_time_on(
    audit: Rotated, signing_key: SigningKey, following: SigningKey, between: datetime
) -> None:
    found = audit(rotation(signing_key, following, between + timedelta(hours=1)))
    assert found.word is AuditWord.BROKEN
    assert findings(found, Severity.BROKEN).keys() >= {"evidence.2/manifest.json", "record/002/closing.json"}


@pytest.mark.slow
def test_the_auditors_own_line_for_a_key_outranks_a_rotation_to_it(
    audit: Rotated, signing_key: SigningKey, following: SigningKey, between: datetime, allowed: str
) -> None:
    for own in ("evacuation@gpu2", "people@example.net", f'evacuation@{HERE} namespaces="git"'):
        lines = f"{allowed}{own} {following.public_key}\n"
        assert audit(rotation(signing_key, following, between), lines).word is AuditWord.BROKEN


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A store's table with a key file, and the next key beside it."""
    for name in ("old", "new"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    store = f'[store.a]\nfolder = "{tmp_path}/store"\n[store.a.signing]\nkey_file = "{tmp_path}/old"\n'
    (tmp_path / "store").mkdir()
    (path := tmp_path / "store.toml").write_text(f'{store}identity = "evacuation@{HERE}"\n')
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("beside", [True, False])
def test_the_command_closes_the_key_in_use_and_ssh_keygen_agrees(
    table: Path, capsys: pytest.CaptureFixture[str], *, beside: bool
) -> None:
    folder = table.parent
    public = " ".join((folder / "new.pub").read_text().split()[:2])
    if beside:  # of another key, an older one: what counts is the key itself
        (folder / "new.pub").write_bytes((folder / "old.pub").read_bytes())
    else:  # as `evacuation key` leaves it
        (folder / "new.pub").unlink()
    assert invoke(["rotate", str(table), str(folder / "new")]) == 0
    told = capsys.readouterr().out
    assert f'evacuation@{HERE} namespaces="evacuation" {public}' in told
    assert f'key_file = "{folder}/new"' in told
    (closing,) = (folder / "store/rotations" / HERE).glob("*/closing.json")
    said = json.loads(closing.read_bytes())
    assert {**said, "closed_utc": ""} == {"closed_utc": "", "host": HERE, "next_key": public}
    (folder / "allowed").write_text(f"evacuation@{HERE} {(folder / 'old.pub').read_text()}")
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", f"evacuation@{HERE}", "-n", "evacuation"]
    command += ["-s", f"{closing}.sig"]
    subprocess.run(command, cwd=folder, input=closing.read_bytes(), check=True, capture_output=True)


def test_the_command_refuses_what_it_cannot_close(table: Path) -> None:
    folder = table.parent
    with pytest.raises(Refused, match="another key than the one in use"):
        invoke(["rotate", str(table), str(folder / "old")])
    with pytest.raises(Refused, match="the public half of the next key"):
        invoke(["rotate", str(table), str(folder / "none")])
    (folder / "new").unlink()
    (folder / "new.pub").write_text("no key\n")
    with pytest.raises(Refused, match="allowed_signers"):
        invoke(["rotate", str(table), str(folder / "new")])
    table.write_text(f'[store.a]\nfolder = "{folder}/store"\n')
    with pytest.raises(Refused, match="a signing key in the store's table"):
        invoke(["rotate", str(table), str(folder / "new")])
    assert not [*(folder / "store").iterdir()]


def test_a_stamp_is_over_the_signature_of_the_closing(
    table: Path, time_authority: TimeAuthority, capsys: pytest.CaptureFixture[str]
) -> None:
    with time_authority.serving() as url:
        table.write_text(table.read_text().replace("[store.a.signing]", f'timestamp_url = "{url}"\n[store.a.signing]'))
        assert invoke(["rotate", str(table), str(table.parent / "new")]) == 0
        assert f"  time      {url}\n" in capsys.readouterr().out
    (stamp,) = (table.parent / "store/rotations").rglob("*.tsr")
    stamped_at(stamp.read_bytes(), stamp.with_suffix("").read_bytes())  # raises, unless it is over that
    assert stamp.name == "closing.json.sig.tsr"


def test_the_page_finds_the_same_keys_with_ssh_keygen(
    signing_key: SigningKey, following: SigningKey, between: datetime, allowed: str, tmp_path: Path
) -> None:
    last, never = (new_key(f"evacuation@{HERE}") for _ in range(2))
    rotations = {
        **rotation(following, last, between + timedelta(days=1), "a"),
        **rotation(signing_key, following, between, "b"),
        **rotation(never, new_key("x@y"), between, "c"),
        **rotation(signing_key, never, between, "d", host="gpu2"),
    }
    for key, data in rotations.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(data)
    (tmp_path / "IR").mkdir()
    (tmp_path / "allowed_signers").write_text(allowed)
    page = (Path(__file__).parents[3] / "conformance/by-hand.md").read_text().partition("## By hand\n")[2]
    (block,) = (text for text, _ in blocks_of(page) if "../rotations" in text)
    script = f"SIGNERS=$PWD/../allowed_signers\nHOST={HERE}\n{block}"
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path / "IR", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    added = read_signers((tmp_path / "signers").read_text())[1:]
    assert [each.key.line for each in added] == [following.public_key, last.public_key]
    found, _ = with_successors(read_signers(allowed), rotations, None)
    assert [(each.principals, each.key) for each in found[1:]] == [(each.principals, each.key) for each in added]
