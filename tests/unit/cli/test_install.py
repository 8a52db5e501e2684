"""What install writes beside units, and what uninstall stops, takes away, leaves and refuses. No systemd is told."""

import stat
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.cli import install, workloads
from tasks.cli.workloads import credentials
from tasks.custody.errors import Refused
from tasks.system.declarations import COMMANDS
from tasks.system.unit_files import escape, stamp

WORKER, API = "evacuation-worker.service", "evacuation-api@.service"
GUARD, DOCTOR = "evacuation-guard@.service", "evacuation-doctor@.timer"
BY_HAND = ""


class Site:
    """A host's units, and what systemd would have been told."""

    def __init__(self, folder: Path) -> None:
        """None is there yet."""
        self.system, self.state, self.told = folder / "system", folder / "state", list[Sequence[str]]()
        self.settings = folder / "settings"
        self.file = folder / "evacuation.toml"
        self.file.write_text(f'[workload.a]\nroot = "{folder}"\nevidence_dir = "{folder / "a.evidence"}"\n')
        self.doctor = DOCTOR.replace("@", f"@{escape(self.file)}")
        for place in (self.system / "some.target.wants", self.state / "prefect"):
            place.mkdir(parents=True)

    def put(self, unit: str, *enabled: str, by: str = "evacuation install 0.1.0", change: str = "") -> Path:
        """Write a unit, by hand or as install does, and enable it, or instances of it."""
        path, text = self.system / unit, f"[Unit]\nDescription={unit}\n"
        path.write_text((stamp(text, by) if by else text) + change)
        for name in enabled:
            (self.system / "some.target.wants" / name).symlink_to(path)
        return path

    def install(self, *, server: bool = True) -> dict[str, str]:
        """Install; what it has written beside units, by name, without its stamp."""
        assert install.install_by_hand(str(self.file), server=server, dry_run=False) == 0
        files = [path for path in self.settings.rglob("*") if path.is_file()]
        return {path.name: path.read_text().partition("\n")[2] for path in files}

    def stopped(self) -> list[str]:
        """The units that are stopped, each one once."""
        names = [name for _, verb, *names in self.told if verb in {"disable", "stop"} for name in names]
        return sorted({*names} - {"--now"})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A host on which everything is allowed."""
    made = Site(tmp_path)
    monkeypatch.setattr(install, "_SYSTEM", made.system)
    monkeypatch.setattr(install, "STATE", made.state)
    for module in (install, workloads):
        monkeypatch.setattr(module, "PASSWORD", made.settings / "auth.env")
        monkeypatch.setattr(module, "PROFILE", made.settings / "profiles.toml")
    for name, path in {"_SETTINGS": "worker.env", "_OF_SERVER": "server.env", "ETC": "", "FOLDER": "hosts.d"}.items():
        monkeypatch.setattr(install, name, made.settings / path)
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(install, "_require_trusted", lambda _: None)
    monkeypatch.setattr(install, "_DATABASE", ())
    monkeypatch.setattr(install, "_require_rights", lambda: None)
    monkeypatch.setattr(install, "_tell", made.told.append)
    return made


def test_instances_of_units_that_install_has_not_written_stay_at_work(site: Site) -> None:
    api = site.put(API, "evacuation-api@4201.service", "evacuation-api@4202.service", by=BY_HAND)
    site.put(DOCTOR, site.doctor)
    site.put(WORKER, WORKER)
    assert install.uninstall_by_hand() == 0
    assert site.stopped() == sorted([WORKER, site.doctor])
    assert [path for path in site.system.iterdir() if path.is_file()] == [api]
    assert not site.state.exists()


def test_a_worker_and_a_doctor_that_were_copied_by_hand_stay_at_work_with_their_state(site: Site) -> None:
    for unit, enabled in ((WORKER, WORKER), (DOCTOR, site.doctor), ("evacuation-doctor@.service", "")):
        site.put(unit, *filter(None, [enabled]), by=BY_HAND)
    assert install.uninstall_by_hand() == 0
    assert site.stopped() == []
    assert (site.state / "prefect").is_dir()


def test_what_install_has_written_and_a_person_has_changed_is_stopped_and_left(site: Site) -> None:
    changed = {site.put(WORKER, WORKER, change="# mine\n"), site.put(DOCTOR, site.doctor, change="# mine\n")}
    site.put("evacuation-doctor@.service")
    assert install.uninstall_by_hand() == 0
    assert site.stopped() == sorted([WORKER, site.doctor, "evacuation-doctor@*.service"])
    assert {path for path in site.system.iterdir() if path.is_file()} == changed


def test_the_guard_of_a_cordon_is_not_stopped_though_no_file_names_its_workload_any_more(
    site: Site, tmp_path: Path
) -> None:
    (evidence := tmp_path / "b of old.evidence").mkdir()
    (marker := evidence / "cordon.json").write_text("{}")
    guard = GUARD.replace("@", f"@{escape(evidence)}")
    units = [site.put(GUARD, guard), site.put(DOCTOR, site.doctor), site.put(WORKER, WORKER)]
    with pytest.raises(Refused, match="no open incident and no cordon") as refused:
        install.uninstall_by_hand()
    assert refused.value.got == f"a cordon stands: {marker}"
    assert site.told == []
    assert all(path.exists() for path in units)
    marker.unlink()
    assert install.uninstall_by_hand() == 0
    assert site.stopped() == sorted([guard, site.doctor, WORKER])


def test_a_new_server_has_a_password_that_worker_and_operator_know_and_nobody_else(site: Site) -> None:
    written = site.install()
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in site.settings.iterdir() if path.is_file()} == {
        "auth.env": 0o600,
        "profiles.toml": 0o600,
        "worker.env": 0o600,
    }
    told = dict(line.split("=", 1) for line in written["auth.env"].splitlines())
    password = told["PREFECT_API_AUTH_STRING"]
    assert told == {"PREFECT_SERVER_API_AUTH_STRING": password, "PREFECT_API_AUTH_STRING": password}
    assert len(password) > len("evacuation:") + 40
    profile = tomllib.loads(written["profiles.toml"])
    wanted = {"PREFECT_API_URL": "http://127.0.0.1:4200/api", "PREFECT_API_AUTH_STRING": password}
    assert profile == {"active": "evacuation", "profiles": {"evacuation": wanted}}
    shown = "\n".join(credentials())
    assert all(str(site.settings / name) in shown for name in ("auth.env", "profiles.toml"))
    assert password not in shown
    units = {path.name: path.read_text() for path in site.system.iterdir() if path.is_file()}
    for name in ("evacuation-server.service", WORKER, "evacuation-doctor@.service"):
        assert "\nEnvironmentFile=-/etc/evacuation/auth.env\n" in units[name]
    assert site.install(server=False) == written, "it stays at an upgrade"
    assert install.uninstall_by_hand() == 0
    assert not site.settings.exists()


def test_a_password_that_is_there_is_taken_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "auth.env" not in site.install(server=False)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "of:this shell")
    assert "PREFECT_API_AUTH_STRING=of:this shell\n" in site.install(server=False)["auth.env"]
    for name in ("auth.env", "profiles.toml"):
        (site.settings / name).unlink()
    (site.settings / "server.env").write_text('PREFECT_SERVER_API_AUTH_STRING="set:by hand"\n')
    assert "PREFECT_API_AUTH_STRING=set:by hand\n" in site.install()["auth.env"]


def test_a_workload_is_declared_without_systemd_and_nothing_else_is_written(site: Site) -> None:
    assert install.declare_by_hand(str(site.file), dry_run=True) == 0
    assert not [path for path in site.settings.rglob("*") if path.is_file()]
    assert install.declare_by_hand(str(site.file), dry_run=False) == 0
    assert [path.name for path in site.settings.rglob("*") if path.is_file()] == ["a.toml"]
    assert site.told == []
    (written,) = (site.settings / "hosts.d").iterdir()
    assert written.stat().st_mode & 0o777 == 0o644
    before = written.read_text()
    site.install()
    assert written.read_text() == before


def test_a_workload_is_declared_as_its_block_is_until_a_person_says_otherwise(site: Site, tmp_path: Path) -> None:
    own = tomllib.loads(site.install()["a.toml"])
    assert (own["root"], {*own}) == (str(tmp_path), {"root", *COMMANDS})
    assert stat.S_IMODE((site.settings / "hosts.d/a.toml").stat().st_mode) == 0o644
    site.file.write_text(site.file.read_text() + 'user = "root"\napi_command = ["serve"]\n')
    own = tomllib.loads(site.install()["a.toml"])
    assert (own["user"], own["api_command"]) == ("root", ["serve"])
    changed = (site.settings / "hosts.d/a.toml").read_text() + "# mine\n"
    (site.settings / "hosts.d/a.toml").write_text(changed)
    site.file.write_text(site.file.read_text().replace('["serve"]', '["sh"]'))
    assert site.install()["a.toml"] == changed.partition("\n")[2]
    assert install.uninstall_by_hand() == 0
    assert [path.name for path in site.settings.rglob("*.*") if path.is_file()] == ["a.toml"]
