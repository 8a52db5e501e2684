"""What is taken from the files of containers, by an engine that answers from memory."""

import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasks.acquisition.collector import Taken, Target
from tasks.collectors import container_files
from tasks.custody.errors import ContainerGone, EngineError, EngineUnreachable
from tasks.custody.evidence.acquisition import Loss, StoredFile
from tasks.host.container.archive import Archive

Files = Mapping[str, bytes]


class FilesEngine:
    """Holds the files of each container by id, their mounts, and errors to answer an inspection with."""

    def __init__(self, **files: Files) -> None:
        """Nothing is mounted, and nothing fails."""
        self.files, self.mounts = files, list[dict[str, str]]()
        self.failing: dict[str, EngineError] = {}
        self.links = dict[str, str]()
        self.changes, self.left = list[str](), dict[str, tuple[int, str]]()

    def __call__(self, _: str) -> "FilesEngine":
        """Take the place of the class."""
        return self

    def close(self) -> None:
        """Nothing is open."""

    def containers(self, _: Sequence[str]) -> tuple[()]:
        """No newcomers."""
        return ()

    def inspect(self, id_: str) -> dict[str, Any]:
        """What is read of it."""
        if id_ in self.failing:
            raise self.failing[id_]
        return {"Config": {"WorkingDir": "/app", "Image": "i:1"}, "Image": "sha256:0", "Mounts": self.mounts}

    def diff(self, _: str) -> list[dict[str, Any]]:
        """Changed paths, as if each was added."""
        return [{"Path": each, "Kind": 1} for each in self.changes]

    def logs(self, id_: str) -> Iterator[bytes]:
        """One line."""
        yield id_.encode()

    def archive(self, id_: str, path: str) -> Archive | None:
        """A tar of a folder."""
        if path in self.links:
            return Archive(posixpath.normpath(posixpath.join(posixpath.dirname(path), self.links[path])), iter([]))
        base, out = path.rpartition("/")[0], io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, content in self.files[id_].items():
                if name == path or name.startswith(f"{path}/"):
                    member = tarfile.TarInfo(name.removeprefix(f"{base}/"))
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
            for name, to in self.links.items():
                if name.startswith(f"{path}/"):
                    member = tarfile.TarInfo(name.removeprefix(f"{base}/"))
                    member.type, member.linkname = tarfile.SYMTYPE, to
                    tar.addfile(member)
        return Archive("", iter([out.getvalue()]))


def gathered(
    engine: FilesEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: Sequence[str] = ("models/**/*",)
) -> tuple[dict[str, str], dict[str, str]]:
    """What is taken, by its name, with its source; what is lost, with the reason."""
    monkeypatch.setattr(container_files, "DockerEngine", engine)
    root, folder = tmp_path / "root", tmp_path / "staging"
    root.mkdir(exist_ok=True)
    folder.mkdir()
    globs = {"models": [*models], "logs": [], "artifacts": []}
    named = tuple((id_, id_) for id_ in engine.files)
    items = list(container_files.gather(Target("IR-1", str(root), "python", 0, globs, [], containers=named), folder))
    taken = {item.file.stored: item.file.source for item in items if isinstance(item, Taken)}
    lists = {item.stored for item in items if isinstance(item, StoredFile)}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {*taken, *lists}
    kept = [json.loads((folder / each).read_bytes())["not_taken"] for each in sorted(lists)]
    engine.left = {row["name"]: (row["bytes"], row["reason"]) for rows in kept for row in rows}
    assert lists <= {f"containers/{id_}/not_taken.json" for id_ in engine.files}
    return taken, {item.source: item.reason for item in items if isinstance(item, Loss)}


@pytest.mark.parametrize("error", [ContainerGone, EngineError])
def test_a_container_that_the_engine_cannot_describe_costs_its_own_files_alone(
    error: type[EngineError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FilesEngine(a={"/app/models/a": b"a"}, b={"/app/models/b": b"b"})
    engine.failing["a"] = error("an answer", "No such container", "Nothing.", "Look.")
    taken, lost = gathered(engine, tmp_path, monkeypatch)
    assert set(taken) == {"containers/a/container.log", "containers/b/container.log", "models/b"}
    assert lost == {"a: its files": "No such container"}


def test_an_engine_that_is_away_is_asked_for_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FilesEngine(a={}, b={})
    engine.failing["a"] = EngineUnreachable("an answer", "none", "Nothing.", "Start it.")
    with pytest.raises(EngineUnreachable):
        gathered(engine, tmp_path, monkeypatch)


def test_a_folder_named_like_a_file_of_the_root_goes_under_the_containers_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the place of the root's model in the evidence, and the collector of the models crashed for good."""
    (tmp_path / "root/models/folder").mkdir(parents=True)
    (tmp_path / "root/models/model").write_bytes(b"the root's")
    long = "x" * 300
    engine = FilesEngine(
        a={f"/app/models/{name}": b"x" for name in ("model/x", "model/y/z", "folder", "folder/new", long)}
    )
    taken, lost = gathered(engine, tmp_path, monkeypatch)
    aside = {name for name in taken if name.startswith("containers/a/models/")}
    assert aside >= {f"containers/a/models/{name}" for name in ("model/x", "model/y/z", "folder")}
    assert len(aside) == 4
    assert set(taken) == aside | {"containers/a/container.log", "models/folder/new"}
    assert lost == {}


@pytest.mark.parametrize("inner", [True, False])
def test_a_folder_of_the_root_is_taken_where_another_mount_lies_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, inner: bool
) -> None:
    """The root does not show what the volume holds."""
    (tmp_path / "root/models/volume").mkdir(parents=True)
    (tmp_path / "root/models/m").write_bytes(b"the root's")
    engine = FilesEngine(a={"/app/models/m": b"the root's", "/app/models/volume/v": b"the volume's"})
    engine.mounts = [{"Destination": "/app/models", "Source": str(tmp_path / "root/models")}]
    engine.mounts += [{"Destination": "/app/models/volume", "Source": "/elsewhere"}] * inner
    engine.mounts += [{"Destination": "/app/models-of-others", "Source": "/elsewhere"}]
    taken, lost = gathered(engine, tmp_path, monkeypatch)
    files = {"containers/a/models/m", "models/volume/v"} if inner else set()
    assert (set(taken), lost) == ({"containers/a/container.log"} | files, {})


def test_of_what_a_container_changed_no_more_is_taken_than_bounds_allow_and_the_rest_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"/new/a": b"abc", "/new/b": b"de", "/new/c": b"f", "/new/d": b"g"}
    engine = FilesEngine(a=files)
    engine.changes = ["/new", *files]
    monkeypatch.setattr(container_files, "Taking", partial(container_files.Taking, requests=3, changed_room=4))
    taken, lost = gathered(engine, tmp_path, monkeypatch)
    assert set(taken) == {"containers/a/container.log", "containers/a/changed/new/a", "containers/a/changed/new/c"}
    assert taken["containers/a/changed/new/a"] == "/new/a"
    assert engine.left.keys() == {"containers/a/image", "containers/a/new/b", "containers/a/new/d"}
    assert engine.left["containers/a/new/b"] == (2, "after the first 64 MiB that no pattern names")
    assert engine.left["containers/a/new/d"][1].startswith("after the 1000 files and 30 s")
    assert "sha256:0" in engine.left["containers/a/image"][1]
    assert lost == {}


def test_what_a_container_changed_is_taken_only_if_it_is_known_to_be_public(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "/root/.bash_history": b"mysql -pZq7canary!X db\n",
        "/root/.docker/config.json": b'{"auths":{"x":{"auth":"Ym9iOlpxN2NhbmFyeTIwMjY="}}}',
        "/var/cache.db": bytes(range(32)) * 9,
        "/app/state.json": b'{"epoch": 7}',
    }
    engine = FilesEngine(a=files)
    engine.changes = [*files]
    taken, lost = gathered(engine, tmp_path, monkeypatch)
    assert set(taken) == {"containers/a/container.log", "containers/a/changed/app/state.json"}
    sha256 = hashlib.sha256(files["/root/.bash_history"]).hexdigest()
    assert engine.left["containers/a/root/.bash_history"] == (
        len(files["/root/.bash_history"]),
        f"withheld: not known to be public, line 1; 23 bytes, sha256 {sha256}",
    )
    assert engine.left.keys() > {f"containers/a{name}" for name in files if name != "/app/state.json"}
    assert lost == {}


def test_what_patterns_take_and_what_lies_in_a_mount_is_no_change_of_the_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a volume what no pattern names is listed: with its size where it was walked, else as a whole."""
    engine = FilesEngine(a={"/app/models/m": b"m", "/app/models/.hidden": b"abc", "/app/new": b"n", "/v/x": b"x"})
    engine.mounts = [{"Destination": "/app/models", "Source": "/elsewhere", "Type": "volume", "Name": "kept"}]
    engine.mounts += [{"Destination": "/v", "Source": "/other", "Type": "volume", "Name": "n1"}]
    engine.mounts += [{"Destination": "/in", "Source": str(tmp_path / "root/in"), "Type": "bind"}]
    engine.changes = ["/app/models", "/app/models/m", "/app/new", "/v"]
    taken, _ = gathered(engine, tmp_path, monkeypatch)
    assert set(taken) == {"containers/a/container.log", "models/m", "containers/a/changed/app/new"}
    assert engine.left.keys() == {"containers/a/image", "containers/a/app/models/.hidden", "containers/a/v/"}
    assert engine.left["containers/a/app/models/.hidden"] == (3, "in a volume, and no pattern names it")
    assert engine.left["containers/a/v/"][1] == "a volume of n1, of which no pattern names a file"


def test_a_pattern_that_begins_with_a_slash_reaches_a_volume_beside_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pattern reached a model there, and what lay beside it was not named."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root/data").mkdir()
    engine = FilesEngine(
        a={"/data/v/x/m.onnx": b"x", "/data/v/x/vocab": b"voc", "/app/m.onnx": b"app", "/etc/shadow": b"s"},
        b={"/data/v/x/m.onnx": b"x"},
    )
    engine.links = {"/data/v/now.onnx": "x/m.onnx", "/data/v/out.onnx": "/etc/shadow"}
    engine.mounts = [{"Destination": "/data", "Source": "/elsewhere", "Type": "volume", "Name": "kept"}]
    patterns = ["/data/v/*/*.onnx", "/data/v/*.onnx", "/data/v/x/m.onnx"]
    taken, lost = gathered(engine, tmp_path, monkeypatch, patterns)
    there = {name: source for name, source in taken.items() if not name.endswith(".log")}
    assert there == {
        "containers/a/from~root/data/v/now.onnx": "/data/v/now.onnx",
        "containers/a/from~root/data/v/x/m.onnx": "/data/v/x/m.onnx",
        "containers/b/from~root/data/v/now.onnx": "/data/v/now.onnx",
        "containers/b/from~root/data/v/x/m.onnx": "/data/v/x/m.onnx",
    }
    assert lost.keys() == {"a:/data/v/out.onnx", "b:/data/v/out.onnx"}
    assert engine.left["containers/a/data/v/x/vocab"] == (3, "in a volume, and no pattern names it")
    assert engine.left["containers/a/data/"][1] == ("a volume of kept, of which patterns name /data/v, /data/v/x alone")


def test_what_nobody_named_comes_after_what_patterns_name_in_every_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that fails to compare one container with its image costs no other its model."""
    engine = FilesEngine(a={}, b={"/app/models/b": b"b"})

    def diff(_: str) -> list[dict[str, Any]]:
        raise EngineError("an answer", "no difference", "Nothing.", "Look.")

    monkeypatch.setattr(engine, "diff", diff)
    taken, lost = gathered(engine, tmp_path, monkeypatch)
    assert "models/b" in taken
    assert lost == {f"{each}: what it changed": "no difference" for each in "ab"}
