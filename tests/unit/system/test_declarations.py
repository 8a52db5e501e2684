"""What root declares of a host's workloads: who is refused by it, what is not believed, and who runs a command."""

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from blocks.workload_fields import WorkloadFields
from tasks.custody.errors import Refused
from tasks.system import declarations
from tasks.system.declarations import (
    VARIABLE,
    account_for,
    declaration,
    of_root,
    read_declarations,
    require_declared,
    why_undeclared,
)

SOMEBODY = 12345


class Host:
    """A host's declarations, and one workload of it."""

    def __init__(self, folder: Path) -> None:
        """None is there yet."""
        self.folder, self.root = folder / "hosts.d", folder / "root"
        self.folder.mkdir()
        self.root.mkdir()

    def block(self, **fields: Any) -> WorkloadFields:
        """The workload's block."""
        about = {"root": self.root, "api_command": ["serve"], "training_command": ["make", "train"]}
        return WorkloadFields(**{**about, **fields})

    def declare(self, text: str = "", name: str = "own.toml", mode: int = 0o644) -> Path:
        """Write a file; what install writes without a text."""
        path = self.folder / name
        path.write_text(text or declaration(self.block()))
        path.chmod(mode)
        return path


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """One on which nothing else is declared."""
    monkeypatch.setattr(declarations, "FOLDER", tmp_path / "hosts.d")
    monkeypatch.delenv(VARIABLE)
    return Host(tmp_path)


def test_what_install_writes_is_what_the_block_says(host: Host) -> None:
    fields: dict[str, Any] = {"api_environment": {"MODEL PATH": 'モデル "1"\\.🧪'}, "user": "root"}
    host.declare(declaration(host.block(**fields)))
    own = of_root(host.root, read_declarations()[0])
    assert own == {
        "root": str(host.root),
        "api_command": ["serve"],
        "training_command": ["make", "train"],
        **fields,
    }


def test_without_a_declaration_no_root_is_refused_and_with_one_every_other(host: Host) -> None:
    require_declared("/srv/other")
    host.declare('user = "root"\n', "any.toml")
    require_declared("/srv/other")
    host.declare()
    require_declared(host.root)
    require_declared(f"{host.root}/")
    for other in ("/srv/other", host.root / "inside", host.root.parent):
        with pytest.raises(Refused, match="a root folder that root has declared"):
            require_declared(other)
        with pytest.raises(Refused, match="a root folder that root has declared"):
            account_for(host.block(root=other), SOMEBODY)


def test_who_asks_before_a_run_is_told_that_it_would_be_refused_and_the_file_that_lets_it_pass(host: Host) -> None:
    assert why_undeclared("/srv/other") == ""
    host.declare()
    assert why_undeclared(host.root) == ""
    told = why_undeclared("/srv/other")
    assert "/srv/other" in told
    assert "evacuation install FILE --declare" in told
    line = told.rpartition("NAME.toml: ")[2]
    host.declare(f"{line}\n", "pasted.toml")
    assert why_undeclared("/srv/other") == ""
    assert account_for(host.block(root=Path("/srv/other")), SOMEBODY) == SOMEBODY, "its commands are the block's"


@pytest.mark.parametrize("wrong", ["mode", "owner", "text"])
def test_a_file_that_is_not_believed_launches_nothing_and_keeps_no_workload_from_being_frozen(
    host: Host, wrong: str
) -> None:
    path = host.declare("root = " if wrong == "text" else "", mode=0o666 if wrong == "mode" else 0o644)
    if wrong == "owner":
        if os.geteuid():
            pytest.skip("needs root")
        os.chown(path, SOMEBODY, -1)
    require_declared(host.root)
    require_declared("/srv/other")
    for root in (host.root, "/srv/other"):
        with pytest.raises(Refused, match="files of root's alone"):
            account_for(host.block(root=root), SOMEBODY)
    host.declare(name="beside.toml")
    assert account_for(host.block(), SOMEBODY) == SOMEBODY


@pytest.mark.parametrize(
    "other", [{"api_command": ["sh"]}, {"training_command": []}, {"api_environment": {"LD_PRELOAD": "/srv/x.so"}}]
)
def test_a_command_other_than_the_declared_one_is_not_launched(host: Host, other: dict[str, Any]) -> None:
    assert account_for(host.block(**other), SOMEBODY) == SOMEBODY
    host.declare()
    (name,) = other
    with pytest.raises(Refused, match=f"{name} as root has declared"):
        account_for(host.block(**other), SOMEBODY)
    assert account_for(host.block(grace_seconds=1), SOMEBODY) == SOMEBODY


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_nothing_runs_as_root_without_roots_word(host: Host) -> None:
    with pytest.raises(Refused, match="an account other than root"):
        account_for(host.block(user="root"), 0)
    host.declare()
    with pytest.raises(Refused, match="an account other than root"):
        account_for(host.block(user="root"), 0)
    host.declare(declaration(host.block(user="root")))
    assert account_for(host.block(), 0) == account_for(host.block(), SOMEBODY) == 0
    with pytest.raises(Refused, match="no variables for what runs as root"):
        account_for(host.block(), 0, {"LD_PRELOAD": "/srv/x.so"})
    nobody = pwd.getpwnam("nobody").pw_uid
    host.declare(declaration(host.block(user="nobody")))
    assert account_for(host.block(), 0, {"SEED": "1"}) == account_for(host.block(), SOMEBODY) == nobody
    host.declare(declaration(host.block(user="no-such-account")))
    with pytest.raises(Refused, match="a declared account of this host"):
        account_for(host.block(), SOMEBODY)


def test_a_further_folder_adds_and_takes_nothing_away(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.declare()
    (further := tmp_path / "further").mkdir()
    monkeypatch.setenv(VARIABLE, str(further))
    with pytest.raises(Refused, match="a root folder that root has declared"):
        require_declared("/srv/drill")
    (further / "drill.toml").write_text('root = "/srv/drill"\n')
    (further / "drill.toml").chmod(0o644)
    require_declared("/srv/drill")
    require_declared(host.root)
    monkeypatch.setenv(VARIABLE, "/nowhere")
    with pytest.raises(Refused, match="a root folder that root has declared"):
        require_declared("/srv/drill")
