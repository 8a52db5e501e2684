"""Ceph's RADOS gateway on this machine: a store that speaks S3 and is of another make than the drill's."""

import secrets
from collections.abc import Sequence
from pathlib import Path

from tasks.system.free_ports import answers, free_ports
from tasks.system.managed_process import ManagedProcess

PROGRAMS = ("ceph", "ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "radosgw-admin")
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = 127.0.0.1:{mon}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
osd objectstore = memstore
memstore device bytes = 3221225472
osd class dir = {classes}
run dir = {folder}
keyring = {folder}/keyring
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
crash dir = {folder}
mon data = {folder}/mon
mgr data = {folder}/mgr
osd data = {folder}/osd
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{s3}
rgw thread pool size = 64
mgr initial modules =
"""
_SCRIPT = """\
set -eux
cd "$1"; access=$2; secret=$3; mon=$4
mkdir mon mgr osd rgw
on="-c ceph.conf"; all="allow *"
ceph-authtool --create-keyring keyring --gen-key -n mon. --cap mon "$all"
ceph-authtool keyring --gen-key -n client.admin --cap mon "$all" --cap osd "$all" --cap mgr "$all" --cap mds "$all"
monmaptool --create --addv a "[v2:127.0.0.1:$mon]" --fsid "$(sed -n 's/fsid = //p' ceph.conf)" monmap
ceph-mon $on --mkfs -i a --monmap monmap --keyring keyring
ceph-mon $on -f -i a &
ask() { ceph $on --connect-timeout 20 "$@"; }
ask auth get-or-create mgr.x mon 'allow profile mgr' osd "$all" >>keyring
ask auth get-or-create osd.0 mon 'allow profile osd' osd "$all" >>keyring
ask auth get-or-create client.rgw.a mon 'allow rw' osd 'allow rwx' >>keyring
ceph-mgr $on -f -i x &
uuid=$(cat /proc/sys/kernel/random/uuid)
ask osd new "$uuid" 0
ceph-osd $on --mkfs -i 0 --osd-uuid "$uuid"
ceph-osd $on -f -i 0 &
ask osd crush add osd.0 1.0 root=default host=h
radosgw $on -f -n client.rgw.a &
radosgw-admin $on -n client.rgw.a user create --uid drill --display-name drill --access-key "$access" --secret "$secret"
touch made
wait
"""


class CephGateway(ManagedProcess):
    """One monitor, one manager, one store in memory and the gateway. Needs root and Debian's packages of Ceph."""

    name = "ceph"
    ready_seconds = 90.0

    def __init__(self, folder: Path, bucket: str = "evidence") -> None:
        """Choose ports and make up credentials."""
        super().__init__(folder)
        self.bucket = bucket
        self.access_key, self.secret_key = secrets.token_hex(10).upper(), secrets.token_hex(20)
        self.ports = free_ports("mon", "s3")

    @property
    def endpoint(self) -> str:
        """URL of the S3 service."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    def start(self) -> None:
        """Write the configuration, then start."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fsid, (classes, *_) = "00000000-0000-4000-8000-000000000001", Path("/usr/lib").glob("*/rados-classes")
        told = _CONFIGURATION.format(fsid=fsid, folder=self.folder, classes=classes, **self.ports)
        (self.folder / "ceph.conf").write_text(told)
        super().start()

    def command(self) -> Sequence[str]:
        """All of it in one process group."""
        told = (self.access_key, self.secret_key, str(self.ports["mon"]))
        return ["bash", "-c", _SCRIPT, "ceph", str(self.folder), *told]

    def ready(self) -> bool:
        """The user was made, and the gateway answers."""
        return (self.folder / "made").exists() and answers(self.endpoint)
