"""A signing key is made once, for root or the worker alone, and its line is the auditor's."""

import inspect
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from blocks.signing_key import SigningKey
from flows.cli import run
from flows.command import commands
from tasks.custody.incident.exit_codes import REFUSED


def test_the_key_signs_as_this_host_and_its_line_is_all_that_stdout_gets(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, identity = tmp_path / "new folder" / "signing.key", f"evacuation@{socket.gethostname()}"
    assert run(["key", str(path)]) == 0
    told = capfd.readouterr()
    block = SigningKey(key_file=path, identity=identity)
    assert told.out == f"{block.allowed_signers}\n"
    assert told.out.startswith(f'{identity} namespaces="evacuation" ssh-ed25519 AAAA')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f'signing = {{ key_file = "{path}", identity = "{identity}" }}' in told.err
    assert "PRIVATE" not in told.out + told.err
    public = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert public.split()[:2] == told.out.split()[2:]
    signature = tmp_path / "data.sig"
    signature.write_bytes(block.sign(b"data"))
    (tmp_path / "signers").write_text(told.out)
    words = ["-Y", "verify", "-f", str(tmp_path / "signers"), "-I", identity, "-n", "evacuation", "-s", str(signature)]
    subprocess.run(["ssh-keygen", *words], input=b"data", check=True)


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path, other = tmp_path / "signing.key", tmp_path / "other"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("of a person")
    else:
        path.symlink_to(other)
    if kind == "link":
        other.write_text("of a person")
    assert run(["key", str(path)]) == REFUSED
    told = capfd.readouterr()
    assert told.out == ""
    assert f"expected a file that is not there yet; got {path}" in told.err
    assert other.exists() == (kind == "link")
    assert all(each.is_dir() or each.read_text() == "of a person" for each in tmp_path.iterdir() if each.exists())


def test_beside_the_public_half_of_another_key_none_is_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "signing.key.pub").write_text("ssh-ed25519 AAAA")
    assert run(["key", str(tmp_path / "signing.key")]) == REFUSED
    assert "signing.key.pub, which is" in capfd.readouterr().err
    assert not (tmp_path / "signing.key").exists()


def test_a_key_lies_where_no_other_account_can_replace_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (shared := tmp_path / "shared").mkdir()
    shared.chmod(0o777)
    assert run(["key", str(shared / "signing.key")]) == REFUSED
    assert f"got {shared}: {shared} of mode 0777" in capfd.readouterr().err
    assert list(shared.iterdir()) == []
    shared.chmod(0o755)
    assert run(["key", str(shared / "signing.key")]) == 0


def test_a_folder_that_takes_no_file_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(["key", str(tmp_path / "file" / "signing.key")]) == REFUSED
    assert f"expected a folder to write a key into; got {tmp_path / 'file'}: Not a directory" in capfd.readouterr().err


def test_without_a_file_it_is_the_one_that_the_pages_name() -> None:
    (file,) = inspect.signature(commands.key).parameters.values()
    assert file.default == Path("/etc/evacuation/signing.key")
