"""§7: describe the container that the block has made anew for the API, by the words of `docker run` (runbook §7)."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import PurePath
from posixpath import normpath
from typing import Any, Final

from tasks.custody.containment.container import Mount

_PORT: Final = re.compile(r"(?:(?P<address>[\d.]+|\[[\da-fA-F:.]+\]):)?(?P<host>\d{1,5}):(?P<inside>\d{1,5})", re.ASCII)
_MOUNT: Final = re.compile(r"(?P<source>[^:\0]+):(?P<target>/[^:\0]+)(?::(?P<mode>ro|rw))?")
_VOLUME: Final = re.compile(r"[a-zA-Z0-9][\w.-]+", re.ASCII)
_LAST_PORT: Final = 65535
_HERE: Final = "./"
_PINNED: Final = re.compile(r"(?:.+@)?sha256:[0-9a-f]{64}")


def is_pinned(image: str) -> bool:
    """Return whether an image is named by its content: its id, or NAME@DIGEST."""
    return bool(_PINNED.fullmatch(image))


def port_of(text: str) -> tuple[str, int, int]:
    """Return address and port of the host, and the container's port, of HOST:CONTAINER or ADDRESS:HOST:CONTAINER.

    The address is loopback if left out. Raises ValueError for anything else.
    """
    found = _PORT.fullmatch(text)
    try:
        address = str(ip_address((found["address"] or "127.0.0.1").strip("[]"))) if found else ""
    except ValueError:
        address = ""
    ports = (int(found["host"]), int(found["inside"])) if found else (0, 0)
    if not address or not all(0 < port <= _LAST_PORT for port in ports):
        raise ValueError(
            f"expected HOST:CONTAINER or ADDRESS:HOST:CONTAINER with TCP ports; got {text!r}. Nothing was saved. "
            "Write it like 8000:8000, or 0.0.0.0:8000:8000 to be reached from other hosts"
        )
    return address, *ports


def mount_of(text: str) -> Mount:
    """Return what VOLUME:TARGET or ./FOLDER:TARGET mounts, with :ro at its end if the container may not write there.

    The source is a volume's name, or a folder relative to the root that begins with "./". Nothing else of the host is
    mounted: its engine is root. Raises ValueError for anything else.
    """
    found = _MOUNT.fullmatch(text)
    source, target = (found["source"], found["target"]) if found else ("", "")
    folder = source.removeprefix(_HERE) if source.startswith(_HERE) else ""
    known = folder == normpath(folder) and not folder.startswith(("/", ".")) if folder else _VOLUME.fullmatch(source)
    if not found or not known or target != normpath(target) or target == "/":
        raise ValueError(
            f"expected VOLUME:TARGET or ./FOLDER:TARGET, with :ro at its end or not; got {text!r}. Nothing was saved. "
            "Write it like models:/app/models, or ./models:/app/models:ro for a folder of the root; nothing outside of "
            "the root is mounted. ルートの外はマウントできません"
        )
    return Mount(source, PurePath(target), found["mode"] != "ro")


def host_folder(mount: Mount) -> str:
    """Return the folder that it mounts, relative to the root; empty for a volume."""
    return mount.source.removeprefix(_HERE) if mount.source.startswith(_HERE) else ""


def new_container(  # noqa: PLR0913  what `docker run` is told
    image: Mapping[str, Any],
    name: str,
    *,
    root: str,
    ports: Iterable[str],
    mounts: Iterable[str],
    environment: Mapping[str, str],
    user: str,
) -> dict[str, Any]:
    """Return the container as the engine's `inspect` would describe it, of this image, called `name` in the block.

    It runs the image's own command, as `user` (UID:GID, without any capability) or the image's own if empty. It gains
    no rights, is not restarted, and is left for its logs when it ends.
    """
    config = image["Config"]
    first, *rest = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])] or [""]
    inherited = dict(each.partition("=")[::2] for each in config.get("Env") or [])
    published: dict[str, list[dict[str, str]]] = {}
    for address, host, inside in map(port_of, ports):
        published.setdefault(f"{inside}/tcp", []).append({"HostIp": address, "HostPort": str(host)})
    return {
        "Id": "",
        "Image": image["Id"],
        "Path": first,
        "Args": rest,
        "Config": {
            "Image": name,
            "Env": [f"{variable}={value}" for variable, value in {**inherited, **environment}.items()],
            "ExposedPorts": {port: {} for port in published},
            "Labels": config.get("Labels") or {},
            **({"User": user} if user else {}),
        },
        "HostConfig": {
            "PortBindings": published,
            "Mounts": [_mounted(mount_of(each), root) for each in mounts],
            "SecurityOpt": ["no-new-privileges"],
            "RestartPolicy": {"Name": "no"},
            **({"CapDrop": ["ALL"]} if user else {}),
        },
        "NetworkSettings": {"Networks": {}},
    }


def _mounted(mount: Mount, root: str) -> dict[str, Any]:
    folder = host_folder(mount)
    kind, source = ("bind", f"{root}/{folder}") if folder else ("volume", mount.source)
    return {"Type": kind, "Source": source, "Target": str(mount.target), "ReadOnly": not mount.writable}
