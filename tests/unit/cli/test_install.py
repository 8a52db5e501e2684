"""What uninstall stops and takes away, what it leaves at work, and when it refuses. No systemd is told."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.cli import install
from tasks.custody.errors import Refused
from tasks.system.unit_files import escaped, stamped

WORKER, API = "evacuation-worker.service", "evacuation-api@.service"
GUARD, DOCTOR = "evacuation-guard@.service", "evacuation-doctor@.timer"
BY_HAND = ""


class Site:
    """A host's units, and what systemd would have been told."""

    def __init__(self, folder: Path) -> None:
        """None is there yet."""
        self.system, self.state, self.told = folder / "system", folder / "state", list[Sequence[str]]()
        self.file = folder / "evacuation.toml"
        self.file.write_text(f'[workload.a]\nroot = "{folder}"\nevidence_dir = "{folder / "a.evidence"}"\n')
        self.doctor = DOCTOR.replace("@", f"@{escaped(self.file)}")
        for place in (self.system / "some.target.wants", self.state / "prefect"):
            place.mkdir(parents=True)

    def put(self, unit: str, *enabled: str, by: str = "evacuation install 0.1.0", change: str = "") -> Path:
        """Write a unit, by hand or as install does, and enable it, or instances of it."""
        path, text = self.system / unit, f"[Unit]\nDescription={unit}\n"
        path.write_text((stamped(text, by) if by else text) + change)
        for name in enabled:
            (self.system / "some.target.wants" / name).symlink_to(path)
        return path

    def stopped(self) -> list[str]:
        """The units that are stopped, each one once."""
        names = [name for _, verb, *names in self.told if verb in {"disable", "stop"} for name in names]
        return sorted({*names} - {"--now"})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A host on which everything is allowed."""
    made = Site(tmp_path)
    monkeypatch.setattr(install, "_SYSTEM", made.system)
    monkeypatch.setattr(install, "_STATE", made.state)
    monkeypatch.setattr(install, "_SETTINGS", tmp_path / "settings/worker.env")
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
    guard = GUARD.replace("@", f"@{escaped(evidence)}")
    units = [site.put(GUARD, guard), site.put(DOCTOR, site.doctor), site.put(WORKER, WORKER)]
    with pytest.raises(Refused, match="no open incident and no cordon") as refused:
        install.uninstall_by_hand()
    assert refused.value.got == f"a cordon stands: {marker}"
    assert site.told == []
    assert all(path.exists() for path in units)
    marker.unlink()
    assert install.uninstall_by_hand() == 0
    assert site.stopped() == sorted([guard, site.doctor, WORKER])
