"""`evacuation audit` as a person types it: which store is meant, what is refused, what it exits with."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.directory import DirectoryStore
from blocks.port import StoredObject
from flows.command.commands import invoke
from tasks.audit.list_incidents import holdings
from tasks.cli.store_argument import named_store
from tasks.custody.errors import Refused
from tasks.custody.evidence.keys import targets_key
from tasks.custody.store.manifest import canonical, digest_bytes
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT
from tests.unit.audit.conftest import Objects
from tests.unit.custody.fleet.test_order import INCIDENT as FLEET


@pytest.fixture
def store(tmp_path: Path, objects: Objects) -> Path:
    """A folder with a whole incident in it, and the file that names it."""
    (tmp_path / "disk").mkdir()
    disk = DirectoryStore(tmp_path / "disk")
    for key, data in objects.items():
        disk.create(key, data, digest_bytes(data))
    file = tmp_path / "a store.toml"
    file.write_text(f'[store.archive]\nfolder = "{tmp_path / "disk"}"\nsigning = "signing-key/of-the-host"\n')
    return file


@contextmanager
def no_server() -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


@pytest.mark.slow
def test_a_folder_is_audited_without_any_server(
    store: Path, allowed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "signers").write_text(allowed)
    arguments = [str(store), INCIDENT, "--signers", str(tmp_path / "signers"), "--deep"]
    with no_server():
        assert invoke(["audit", *arguments]) == 0
        first, *_, last = capsys.readouterr().out.splitlines()
        whose = f"host {socket.gethostname()}, workload test"
        assert first == f"PROVEN, a copy of memory:  {INCIDENT}, {whose}, in {tmp_path / 'disk'}"
        assert last.startswith(f"PROVEN incident={INCIDENT} ")
        (tmp_path / "disk/incidents" / INCIDENT / "evidence/pip_freeze.txt").write_text("other")
        assert invoke(["audit", *arguments]) == 11
        assert f"broken: incidents/{INCIDENT}/evidence/pip_freeze.txt: not what" in capsys.readouterr().out


def test_without_an_id_the_incidents_are_listed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["audit", f"{store}:archive"]) == 0
    heads, row, _, following = capsys.readouterr().out.splitlines()
    assert heads.startswith("id ")
    assert row.startswith(INCIDENT)
    assert " VERIFIED  2        yes " in row
    assert following == f"next: evacuation audit '{store}:archive' INCIDENT"


def test_fleets_are_listed_beside_the_incidents(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk, told = DirectoryStore(store.parent / "disk"), canonical(FLEET.facts)
    disk.create(targets_key(FLEET.id), told, digest_bytes(told))
    (store.parent / "disk/fleets/FL-20260101T000000Z-empty-0000").mkdir()
    assert invoke(["audit", str(store)]) == 0
    *_, heads, row, counted, following = capsys.readouterr().out.splitlines()
    assert heads.split() == ["id", "opened", "fleet", "hosts", "verdict", "records", "signed", "objects", "bytes"]
    assert row.split() == [
        *(FLEET.id, FLEET.opened_at.isoformat(), FLEET.name, str(len(FLEET.hosts))),
        *("not", "closed", "0", "no", "1", str(len(told))),
    ]
    assert counted.startswith("1 fleets;")
    assert following == f"next: evacuation audit '{store}' INCIDENT"
    assert invoke(["audit", str(store), "--json"]) == 0
    assert [each["id"] for each in json.loads(capsys.readouterr().out)["fleets"]] == [FLEET.id]


def test_an_incident_costs_the_list_three_requests(objects: Objects) -> None:
    asked = list[str]()

    class Counting(MemoryStore):
        def list(self, prefix: str) -> Iterator[StoredObject]:
            asked.append(prefix)
            return super().list(prefix)

        def read(self, key: str, limit: int | None = None) -> bytes:
            asked.append(key)
            return super().read(key, limit)

    store = Counting()
    store._objects.update(objects)
    (row,) = holdings(store)
    home = f"incidents/{INCIDENT}/"
    assert sorted(asked) == ["incidents/", home, f"{home}claim.json", f"{home}record/002/closing.json"]
    sizes = [len(data) for key, data in objects.items() if key.startswith(home)]
    assert (row["objects"], row["bytes"]) == (str(len(sizes)), str(sum(sizes)))


def test_an_empty_store_holds_no_incident(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store.toml").write_text(f'[store.archive]\nfolder = "{tmp_path}"\n')
    assert invoke(["audit", str(tmp_path / "store.toml")]) == 0
    assert capsys.readouterr().out == "no incidents\n"


def test_an_id_that_is_not_whole_is_refused_by_what_an_audit_can_do(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="Copy the whole id of the one that is meant"):
        invoke(["audit", f"{tmp_path}/", "IR-2026"])


@pytest.mark.parametrize("typed", ["{}", "./kept", "{}/"])
def test_the_folder_of_a_store_is_the_store_and_needs_no_server(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").mkdir()
    monkeypatch.chdir(tmp_path)
    with no_server():
        assert invoke(["audit", typed.format(tmp_path / "kept"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["place"] == str(tmp_path / "kept")


TWO = '[store.a]\nfolder = "/srv/a"\n\n[store.b]\nfolder = "/srv/b"\ncredentials = "aws-credentials/b"\n'


def test_one_of_several_is_named_and_the_others_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(TWO)
    with no_server():
        assert named_store(f"{tmp_path}/two.toml:a").folder == Path("/srv/a")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("two.toml", "a, b"),
        ("two.toml:c", "'c' of a, b"),
        ("two.toml:b", "Prefect server"),
        ("none.toml", "a TOML file"),
        ("./none", r"Give the file with its table \[store.NAME\], the store's folder, s3://BUCKET/PREFIX, or a saved"),
        ("archive", "Prefect server"),
    ],
)
def test_what_cannot_be_opened_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, words: str
) -> None:
    (tmp_path / "two.toml").write_text(TWO)
    monkeypatch.chdir(tmp_path)
    with no_server(), pytest.raises(Refused, match=words):
        named_store(given)


@pytest.mark.parametrize("content", [None, b"\xff", b"nonsense"])
def test_signers_that_cannot_be_read_are_refused(store: Path, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "signers").write_bytes(content)
    with pytest.raises(Refused, match="allowed_signers"):
        invoke(["audit", str(store), INCIDENT, "--signers", str(tmp_path / "signers")])
