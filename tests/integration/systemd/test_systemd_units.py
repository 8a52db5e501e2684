"""The systemd units of examples/: what systemd itself says of them, and that they give a worker what it needs."""

import shutil
import subprocess
import sys
from pathlib import Path, PurePath

import pytest

from flows.worker import SETTINGS
from tasks.cli.install import OF_A_HOST, render_unit
from tasks.preflight.privileges import missing_rights
from tasks.system.priority import NICE, OOM
from tasks.system.unit_files import escape

PROJECT = Path(__file__).parents[3]
UNITS = PROJECT / "examples/systemd"
WORKER, SERVER = "evacuation-worker.service", "evacuation-server.service"
NUMBERS = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_NICE": 23,
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYSLOG": 34,
}


def values(unit: str, key: str) -> list[str]:
    lines = (UNITS / unit).read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def told(folder: Path) -> tuple[int, str]:
    units = sorted(map(str, folder.glob("*.s*")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, for a checkout that lies where this one does: systemd looks whether what is started is there."""
    (tmp_path / "opt").symlink_to(PROJECT)
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/evacuation", str(tmp_path / "opt")))
    return tmp_path


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (Debian's systemd)")
def test_systemd_takes_the_units_as_they_are_and_would_say_so_if_not(installed: Path) -> None:
    assert {unit.suffix for unit in UNITS.iterdir()} == {".slice", ".service", ".timer"}
    assert told(installed) == (0, "")
    worker = installed / WORKER
    worker.write_text(worker.read_text().replace("KillMode", "KilMode"))
    assert "Unknown key 'KilMode'" in told(installed)[1]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (Debian's systemd)")
def test_what_is_installed_names_the_programs_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs := tmp_path / "50% of a place").mkdir()
    for program in ("python", "evacuation"):
        (programs / program).symlink_to(Path(sys.executable).with_name(program))
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    (units := tmp_path / "units").mkdir()
    for name in (*OF_A_HOST, SERVER):
        (units / name).write_text(render_unit(name))
    assert told(units) == (0, "")
    (programs / "python").unlink()
    assert f"{programs}/python is not executable" in told(units)[1]


@pytest.mark.skipif(not shutil.which("systemd-escape"), reason="needs systemd-escape (Debian's systemd)")
def test_an_instance_is_named_as_systemd_would() -> None:
    paths = ["/", "/srv//x/", "/.a/.b", "/a-b/c d", "/証跡/é", "/50%\\x2d\t", "/a:b_c.D/@!$'\"", "/etc/w.toml:gpu1"]
    done = subprocess.run(["systemd-escape", "--path", "--", *paths], capture_output=True, text=True, check=True)
    assert [escape(PurePath(path)) for path in paths] == done.stdout.split()


def test_a_worker_of_the_unit_lacks_no_right_and_has_the_settings_of_one_that_was_started_by_hand() -> None:
    names = " ".join(values(WORKER, "CapabilityBoundingSet")).split()
    for same in ("User", "CapabilityBoundingSet", "EnvironmentFile", "StateDirectory"):
        assert values("evacuation-doctor@.service", same) == values(WORKER, same), "the doctor answers for the worker"
    assert missing_rights(sum(1 << NUMBERS[name] for name in names), 0, 1000) == ()
    assert {f"{name}={value}" for name, value in SETTINGS.items()} <= set(values(WORKER, "Environment"))
    for unit in (WORKER, SERVER):
        assert (values(unit, "Nice"), values(unit, "OOMScoreAdjust")) == ([str(NICE)], [str(OOM)])


def test_the_units_of_a_fleets_server_have_no_capability_and_one_account() -> None:
    units = ["evacuation-migrate.service", "evacuation-api@.service", "evacuation-services.service"]
    assert {tuple(values(unit, "User")) for unit in units} == {("prefect",)}
    assert {tuple(values(unit, "EnvironmentFile")) for unit in units} == {("/etc/evacuation/plant.env",)}
    for unit in (*units, "evacuation-balancer.service"):
        assert values(unit, "CapabilityBoundingSet") == [""]
        assert (values(unit, "DynamicUser"), values(unit, "NoNewPrivileges")) == (["yes"], ["yes"])
        assert values(unit, "Slice") == ["evacuation.slice"]
