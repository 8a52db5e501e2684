"""Whether root has started an API alone: alone it catches a start as root of what another account can change."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocks.workload import Workload
from tasks.recovery.own_house import why_not_roots

SOMEBODY = 4242
CHANGED = "another account can change what it starts: "

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class House:
    """A root folder of root's with a script, a model and a virtual environment beside it."""

    def __init__(self, folder: Path) -> None:
        """Make it."""
        self.folder, self.root, self.environment = folder, folder / "root", folder / "venv"
        for each in ("root/models", "venv/bin", "venv/lib/site-packages", "beside", "others"):
            (folder / each).mkdir(parents=True)
        for each in ("root/serve.py", "root/models/a.joblib", "venv/pyvenv.cfg", "venv/lib/site-packages/x.py"):
            (folder / each).touch()
        (folder / "venv/bin/python").symlink_to("/usr/bin/env")
        (folder / "beside/conf.toml").touch()
        os.chown(folder / "others", SOMEBODY, SOMEBODY)
        (folder / "root/link").symlink_to(folder / "beside")
        self.command = [str(folder / "venv/bin/python"), "serve.py", f"--config={folder}/beside/conf.toml"]
        self.variables = {
            "PATH": "/usr/bin:/bin",
            "MAIL": "/var/mail/root",
            "OLDPWD": str(folder / "others"),
            "TMPDIR": "/tmp",  # noqa: S108  what a login has
            "SEED": "1",
        }
        self.start: dict[str, Any] = {
            "accounts": [0, 0, 0],
            "setuid": 0,
            "folder": str(self.root),
            "serves": True,
        }

    def why(self, **fields: Any) -> str:
        """Ask for the block with these fields."""
        start = {**self.start, "command": self.command, "variables": self.variables}
        return why_not_roots(Workload(root=self.root, **{"api_command": self.command, **fields}), [start])


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_what_root_alone_can_change_comes_back(house: House) -> None:
    assert house.why() == ""
    assert house.why(api_environment={"SEED": "1"}) == ""
    (house.root / "log").symlink_to(os.devnull)
    house.variables["LOG"] = os.devnull
    house.command.insert(0, "/usr/bin/python3")
    assert house.why(api_command=house.command[1:]) == "", "the kernel adds a script's interpreter"


def give(name: str) -> Callable[[House], str]:
    def change(house: House) -> str:
        os.chown(house.folder / name, SOMEBODY, -1, follow_symlinks=False)
        return f"{house.folder / name} of user {SOMEBODY}"

    return change


def open_to_all(name: str) -> Callable[[House], str]:
    def change(house: House) -> str:
        (house.folder / name).chmod(0o777)
        return f"{house.folder / name} of mode 0777"

    return change


def search(name: str) -> Callable[[House], str]:
    def change(house: House) -> str:
        house.variables[name] = f"/usr/lib:{house.folder}/others/none"
        return f"{house.folder}/others of user {SOMEBODY}"

    return change


@pytest.mark.parametrize(
    "change",
    [
        *map(give, ["root", "root/models", "root/models/a.joblib", "root/serve.py", "root/link", "beside"]),
        *map(give, ["venv", "venv/bin/python", "venv/lib/site-packages/x.py", "beside/conf.toml", "."]),
        *map(open_to_all, ["root", "root/serve.py", "venv/lib/site-packages", "beside/conf.toml", "."]),
        *map(search, ["PYTHONPATH", "LD_LIBRARY_PATH", "PATH", "ANY"]),
    ],
)
def test_what_another_account_can_change_is_refused_by_its_path(house: House, change: Callable[[House], str]) -> None:
    place = change(house)
    assert house.why() == f"{CHANGED}{place}"


def test_a_place_where_anybody_can_put_a_module_is_refused(house: House) -> None:
    (house.folder / "sticky").mkdir()
    (house.folder / "sticky").chmod(0o1777)
    house.variables["PYTHONPATH"] = str(house.folder / "sticky")
    assert house.why() == f"{CHANGED}{house.folder}/sticky, where anybody may take the name sitecustomize.py"


@pytest.mark.parametrize(
    "fields",
    [
        {"api_command": ["/bin/sh", "-c", "id"]},
        {"api_command": ["serve.py"]},
        {"api_environment": {"LD_PRELOAD": "/usr/lib/x.so"}},
        {"api_environment": {"SEED": "2"}},
    ],
)
def test_a_start_that_the_block_alone_names_is_refused(house: House, fields: dict[str, Any]) -> None:
    assert "not as what ran as root had it" in house.why(**fields)


def test_another_name_of_what_ran_counts_by_what_it_leads_over(house: House) -> None:
    (link := house.folder / "others/python").symlink_to(house.command[0])
    assert house.why(api_command=[str(link), *house.command[1:]]) == f"{CHANGED}{link.parent} of user {SOMEBODY}"


@pytest.mark.parametrize("other", [{"accounts": [SOMEBODY, 0, 0]}, {"accounts": [SOMEBODY] * 3}, {"setuid": 1}])
def test_what_was_not_roots_own_start_is_no_precedent(house: House, other: dict[str, Any]) -> None:
    house.start |= other
    assert house.why() == "how the API ran as root is not kept"
