"""Scenes of processes beside or as a workload, with programs and names of no list, each on a host of its own.

A host of its own is a namespace of processes, mounts and network: nothing of a scene outlives it, and nothing else is
seen by it. Who belongs to the workload is told by a supplementary group that a process inherits whatever it does to its
name, folder, mounts and parent.
"""

import ctypes
import fcntl
import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.workloads import open_the_way, wait_until

PYTHON: Final = "/usr/bin/python3"
OF_THE_WORKLOAD, BESIDE_IT = 700_001, 700_002
"""Supplementary groups."""
_ACCOUNT: Final = 1_300_000_001
SOMEBODY: Final = 1_300_000_002
_TITLE: Final = b"dbus-daemon --system"
_NAMESPACES: Final = 0x20000000 | 0x00020000 | 0x40000000  # processes, mounts, network
_IFF_UP: Final = 0x1
_SIOCSIFFLAGS: Final = 0x8914

_KEEPER: Final = """
import json, os, pty, select, sys, time
notes, command, folder, typed, terminal = json.load(open(sys.argv[1]))
if terminal:
    pid, screen = pty.fork()
else:
    pid, screen = os.fork(), os.open("/dev/null", os.O_RDWR)
if pid == 0:
    if not terminal:
        os.setsid()
        for number in (0, 1, 2):
            os.dup2(screen, number)
    os.chdir(folder)
    os.execvp(command[0], command)
log = open(notes, "a", buffering=1)
for line in typed:
    os.write(screen, line.encode() + b"\\n")
while True:
    if terminal and select.select([screen], [], [], 0.02)[0]:
        try:
            os.read(screen, 65536)
        except OSError:
            time.sleep(0.02)
    who, status = os.waitpid(pid, (os.WNOHANG if terminal else 0) | os.WUNTRACED | os.WCONTINUED)
    if who:
        print(status, file=log)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            break
"""
"""Starts a program, on a terminal or without one, and notes what the kernel tells its parent of it."""


@dataclass(frozen=True)
class Scene:
    """Programs that are started for real. ROOT, HOME, MARKS and PYTHON in all texts are places of the scene.

    `command` runs in `cwd` by the scene's account, or as root where it holds AS, which then takes the account.
    `prepare` is a script that root runs first, and `then` one that root runs once it is at work. It is at work when
    `marks` processes have left a mark and a process of it has a command line that begins with each of `rests`. On a
    terminal, `typed` are lines that a person types. Its arguments may be `wiped`, unless nothing else ties it. Whose
    line begins with `innocent` is a person's.
    """

    name: str
    command: str
    cwd: str = "ROOT"
    files: Mapping[str, str] = field(default_factory=dict)
    prepare: str = ""
    then: str = ""
    root: str = "app"
    block_root: str = "ROOT"
    marks: int = 1
    rests: tuple[str, ...] = ()
    typed: tuple[str, ...] = ()
    terminal: bool = False
    wiped: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    innocent: str = "nobody"


def spin(before: str = "", folder: str = "MARKS") -> str:
    """A program in Python that works until it is ended."""
    mark = f"open('{folder}/mark-%d' % os.getpid(), 'w').close()"
    return f"import os, sys, time\n{before}\n{mark}\nwhile True:\n    time.sleep(0.03)\n"


_MARK: Final = ": > MARKS/mark-$$"
_SH: Final = f"{_MARK}\nwhile :; do sleep 60; done\n"
_NODE: Final = (
    "require('fs').writeFileSync('MARKS/mark-' + process.pid, ''); let n = 0; setInterval(() => { n += 1; }, 20);\n"
)
_PERL: Final = 'open(my $f, ">", "MARKS/mark-$$"); close $f; select(undef, undef, undef, 0.03) while 1;\n'
_AWK: Final = 'BEGIN { printf "" > "MARKS/mark-awk"; close("MARKS/mark-awk"); while (1) n += system("sleep 0.1"); }\n'
_C: Final = r"""
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
    char name[4096];
    BEFORE
    snprintf(name, sizeof name, "MARKS/mark-%d", getpid());
    close(open(name, O_CREAT | O_WRONLY, 0666));
    for (;;) usleep(30000);
}
"""
_C_DAEMON: Final = 'if (fork()) _exit(0); setsid(); if (fork()) _exit(0); if (chdir("/")) _exit(1);'
_FIT: Final = {"jobs/fit.py": spin()}
_TRAIN: Final = {"src/train.py": spin()}


def _env(place: str) -> str:
    """An environment with this Python, as `python -m venv` and its likes leave it."""
    site = "lib/python3.13/site-packages"
    return (
        f"mkdir -p {place}/bin {place}/{site} && ln -s PYTHON {place}/bin/python && "
        f"echo 'home = /usr/bin' > {place}/pyvenv.cfg"
    )


def _server(place: str) -> str:
    """A uvicorn of that environment that imports what it is given, and works on."""
    site = f"{place}/lib/python3.13/site-packages/uvicorn"
    code = (
        "import argparse, importlib, sys\\n"
        "parser = argparse.ArgumentParser()\\n"
        'parser.add_argument("app")\\n'
        'parser.add_argument("--app-dir", default=".")\\n'
        'parser.add_argument("--port")\\n'
        "known, _ = parser.parse_known_args()\\n"
        "sys.path.insert(0, known.app_dir)\\n"
        'importlib.import_module(known.app.partition(":")[0])\\n'
    )
    return (
        f"{_env(place)} && mkdir -p {site} && : > {site}/__init__.py && printf '{code}' > {site}/__main__.py && "
        f'printf \'#!{place}/bin/python\\nimport runpy\\nrunpy.run_module("uvicorn", run_name="__main__")\\n\''
        f" > {place}/bin/uvicorn && chmod 755 {place}/bin/uvicorn"
    )


_COMPILED: Final = "cc -O1 -o {to} ROOT/native/crunch.c"
_CRUNCH: Final = {"native/crunch.c": _C.replace("BEFORE", "")}
_MAPPED: Final = spin(
    "import mmap\nf = open('ROOT/models/model_a.joblib', 'rb')\nm = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)\n"
    "f.close()\nassert m[0] == 120"
)
_MEMFD: Final = """
import os, sys
code = open(sys.argv[1], 'rb').read()
fd = os.memfd_create('x')
os.write(fd, code)
if len(sys.argv) > 2:
    os.open(sys.argv[2], os.O_RDONLY | os.O_CLOEXEC)
    os.set_inheritable(os.open(sys.argv[2], os.O_RDONLY), True)
os.chdir(sys.argv[3] if len(sys.argv) > 3 else '.')
os.execve(fd, ['kworker'], os.environ)
"""
_THREAD_CWD: Final = spin(
    """
import ctypes, threading
ready = threading.Event()
def work():
    assert ctypes.CDLL(None).unshare(0x200) == 0
    os.chdir('ROOT')
    ready.set()
    while True:
        time.sleep(0.03)
threading.Thread(target=work).start()
ready.wait()
"""
)
_DEEP: Final = """
import os, sys, time
os.chdir(sys.argv[1])
for _ in range(25):
    name = 'd' * 200
    os.makedirs(name, exist_ok=True)
    os.chdir(name)
open('MARKS/mark-%d' % os.getpid(), 'w').close()
while True:
    time.sleep(0.03)
"""
_DAEMON: Final = "if os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\nos.chdir('/')"
_STAYS: Final = """
import subprocess
subprocess.Popen(['PYTHON', 'HOME/worker.py'], cwd='/', start_new_session=True)
"""
_ORPHANS: Final = """
if os.fork() == 0:
    if os.fork():
        os._exit(0)
    os.chdir('/')
    os.execv('PYTHON', ['PYTHON', 'HOME/worker.py'])
os.wait()
"""
_BURST: Final = "import os, time\nopen('MARKS/mark-%d' % os.getpid(), 'w').close()\ntime.sleep(0.3)\n"
_LAUNCHER: Final = """
import subprocess, sys, time
while True:
    subprocess.run([sys.executable, 'jobs/burst.py'])
    subprocess.run(['sleep', '60'])
"""
_PERL_LOOP: Final = "while (1) { system('PYTHON', 'src/train.py', '--mode', 'full'); system('sleep', '60'); }\n"
_SHARED: Final = spin(
    "import mmap\nf = open('ROOT/logs/state.bin', 'r+b')\nm = mmap.mmap(f.fileno(), 0)\nf.close()\nm[0] = 1"
)


def _group(kind: str, *scenes: Scene) -> tuple[tuple[str, Scene], ...]:
    return tuple((kind, scene) for scene in scenes)


WORKLOADS: Final = (
    *_group(
        "interpreter",
        Scene(".venv", ".venv/bin/python src/train.py --epochs 3", files=_TRAIN, prepare=_env("ROOT/.venv")),
        Scene("env, a job of its own name", "env/bin/python jobs/fit.py", files=_FIT, prepare=_env("ROOT/env")),
        Scene(
            "conda",
            "HOME/miniconda3/envs/ml/bin/python jobs/fit.py",
            files=_FIT,
            prepare=f"{_env('HOME/miniconda3/envs/ml')} && mkdir HOME/miniconda3/envs/ml/conda-meta && "
            "cp --remove-destination -L PYTHON HOME/miniconda3/envs/ml/bin/python",
        ),
        Scene(
            "poetry",
            "HOME/.cache/pypoetry/virtualenvs/app-9x-py3.13/bin/python -m jobs.fit",
            files=_FIT,
            prepare=_env("HOME/.cache/pypoetry/virtualenvs/app-9x-py3.13"),
        ),
        Scene(
            "poetry, from elsewhere, by a .pth",
            "HOME/.cache/pypoetry/virtualenvs/app-9x-py3.13/bin/python -m jobs.fit --out ROOT/artifacts",
            cwd="/",
            files=_FIT,
            prepare=f"E=HOME/.cache/pypoetry/virtualenvs/app-9x-py3.13; {_env('$E')}; "
            "echo ROOT > $E/lib/python3.13/site-packages/app.pth",
            wiped=False,
        ),
        Scene("cron", "ROOT/venv/bin/python ROOT/jobs/fit.py", cwd="/", files=_FIT, prepare=_env("ROOT/venv")),
        Scene("cron, the system's Python", "PYTHON ROOT/jobs/fit.py", cwd="/", files=_FIT, wiped=False),
        Scene("cron, the usual script", "PYTHON ROOT/src/train.py --mode full", cwd="HOME", files=_TRAIN, wiped=False),
        Scene(
            "a unit's sh -c",
            "sh -c 'cd / && exec PYTHON -u ROOT/src/train.py --mode full'",
            cwd="/",
            files=_TRAIN,
            wiped=False,
        ),
        Scene(
            "uvicorn --app-dir",
            "HOME/tools/bin/python -m uvicorn --app-dir ROOT api.app:app --port 8000",
            cwd="HOME",
            files={"api/app.py": spin()},
            prepare=_server("HOME/tools"),
            wiped=False,
        ),
        Scene(
            "uvicorn --app-dir, an application of another name",
            "HOME/tools/bin/uvicorn service.main:application --app-dir ROOT",
            cwd="/",
            files={"service/main.py": spin()},
            prepare=_server("HOME/tools"),
            wiped=False,
        ),
        Scene(
            "PYTHONPATH",
            "PYTHON -m service.main",
            cwd="/",
            files={"service/main.py": spin()},
            environment={"PYTHONPATH": "ROOT"},
            wiped=False,
        ),
        Scene(
            "releases and current",
            "PYTHON jobs/fit.py",
            cwd="ROOT/current",
            files={"releases/7/jobs/fit.py": spin()},
            prepare="ln -s releases/7 ROOT/current",
            block_root="ROOT/current",
        ),
        Scene(
            "releases, the one before",
            "venv/bin/python src/train.py --mode full",
            cwd="ROOT/current",
            files={"releases/7/src/train.py": spin()},
            prepare=f"ln -s releases/7 ROOT/current; {_env('ROOT/releases/7/venv')}",
            then="sleep 1.2; mkdir -p ROOT/releases/8/src && ln -sfn releases/8 ROOT/current",
            block_root="ROOT/current",
            wiped=False,
        ),
        Scene("node", "node src/train.js", files={"src/train.js": _NODE}),
        Scene(
            "node, absolute, from elsewhere",
            "node ROOT/lib/worker.mjs",
            cwd="/",
            files={"lib/worker.mjs": _NODE.replace("require('fs')", "(await import('fs'))")},
            wiped=False,
        ),
        Scene("node -e", f"node -e {shlex.quote(_NODE)}"),
        Scene("perl", "perl crunch.pl", files={"crunch.pl": _PERL}),
        Scene("perl -e", f"perl -e {shlex.quote(_PERL)}"),
        Scene("awk", "awk -f crunch.awk", files={"crunch.awk": _AWK}),
        Scene(
            "compiled, below the root",
            "native/crunch",
            files=_CRUNCH,
            prepare=_COMPILED.format(to="ROOT/native/crunch"),
        ),
        Scene(
            "compiled, below the root, from elsewhere",
            "ROOT/native/crunch",
            cwd="/",
            files=_CRUNCH,
            prepare=_COMPILED.format(to="ROOT/native/crunch"),
        ),
        Scene("compiled, of elsewhere", "HOME/crunch", files=_CRUNCH, prepare=_COMPILED.format(to="HOME/crunch")),
        Scene(
            "compiled, called tail",
            "HOME/tail -f logs/x",
            files=_CRUNCH,
            prepare=_COMPILED.format(to="HOME/tail"),
        ),
        Scene("bash script", "bash train.sh", files={"train.sh": _SH}),
        Scene("bash script with options", "bash -eu -o pipefail train.sh", files={"train.sh": _SH}),
        Scene("sh by stdin", "sh -c 'exec sh < train.sh'", files={"train.sh": _SH}),
        Scene("bash -s by a pipe", "sh -c 'cat train.sh | bash -s -- fast'", files={"train.sh": _SH}),
        Scene("a script by stdin", "sh -c 'exec PYTHON - < jobs/fit.py'", files=_FIT),
        Scene("a script by stdin, from elsewhere", "sh -c 'exec PYTHON < ROOT/jobs/fit.py'", cwd="/", files=_FIT),
        Scene("a heredoc's bash", "bash -c 'exec bash /dev/fd/3 3< train.sh'", files={"train.sh": _SH}),
        Scene("exec -a", "bash -c 'exec -a sshd: PYTHON jobs/fit.py'", files=_FIT),
        Scene("exec -a bash", "bash -c 'exec -a -bash PYTHON jobs/fit.py'", files=_FIT),
        Scene("a #! script", "./fit", files={"fit": f"#!PYTHON\n{spin()}"}),
        Scene("a #! script from elsewhere", "ROOT/bin/go", cwd="/", files={"bin/go": f"#!/bin/sh\n{_SH}"}, wiped=False),
        Scene("a #! script of env", "bin/go", files={"bin/go": f"#!/usr/bin/env python3\n{spin()}"}),
        Scene(
            "a program copied into the root",
            "bin/indexer -c '" + _SH.replace("\n", "; ", 1).replace("\n", "") + "'",
            prepare="mkdir -p ROOT/bin && cp /bin/bash ROOT/bin/indexer",
        ),
        Scene(
            "a Python copied into the root, from elsewhere",
            'ROOT/bin/agent -c \'import os, time; open("MARKS/mark-1", "w").close(); time.sleep(600)\'',
            cwd="/",
            prepare="mkdir -p ROOT/bin && cp -L PYTHON ROOT/bin/agent",
        ),
        Scene(
            "memfd",
            "PYTHON HOME/load.py HOME/crunch",
            files={**_CRUNCH, "HOME/load.py": _MEMFD},
            prepare=_COMPILED.format(to="HOME/crunch"),
        ),
        Scene(
            "a deleted program of the root",
            "native/crunch",
            files=_CRUNCH,
            prepare=_COMPILED.format(to="ROOT/native/crunch"),
            then="rm ROOT/native/crunch",
        ),
        Scene(
            "a deleted program of the root, from elsewhere",
            "ROOT/native/crunch",
            cwd="/",
            files=_CRUNCH,
            prepare=_COMPILED.format(to="ROOT/native/crunch"),
            then="rm ROOT/native/crunch",
        ),
        Scene("a REPL", "venv/bin/python -i jobs/fit.py", files=_FIT, prepare=_env("ROOT/venv"), terminal=True),
        Scene(
            "a REPL of the system's Python",
            "PYTHON -q",
            terminal=True,
            typed=("import time; open('MARKS/mark-repl', 'w').close(); n = [time.sleep(0.1) for _ in range(9999)]",),
        ),
        Scene("sqlite3 with a shell", "sqlite3 data.db '.shell sh job.sh'", files={"job.sh": _SH}),
        Scene("vim that runs a job", "vim -es -u NONE -c '!sh job.sh' x", files={"job.sh": _SH}, terminal=True),
        Scene("find -exec", "find jobs -name fit.py -exec PYTHON {} ;", files=_FIT),
        Scene("git alias", "git -c alias.fit=!PYTHON\\ jobs/fit.py fit", files=_FIT, prepare="git init -q ROOT"),
        Scene(
            "tar's checkpoint",
            "tar -cf /dev/null --checkpoint=1 --checkpoint-action=exec='sh job.sh' jobs",
            files={"job.sh": _SH, "jobs/x": "x" * 200_000},
        ),
        Scene("timeout", "timeout 3000 PYTHON jobs/fit.py", files=_FIT),
        Scene("nohup nice", "nohup nice -n 5 PYTHON jobs/fit.py", files=_FIT),
        Scene("make", "make fit", files={**_FIT, "Makefile": "fit:\n\tPYTHON jobs/fit.py\n"}),
        Scene("watch-like xargs", "sh -c 'echo jobs/fit.py | xargs -n 1 PYTHON'", files=_FIT),
    ),
    *_group(
        "place",
        Scene(
            "bind mount in a namespace of its own",
            "unshare -m sh -c 'mount --bind ROOT HOME/elsewhere && cd HOME/elsewhere && exec AS PYTHON jobs/fit.py'",
            cwd="/",
            files=_FIT,
            prepare="mkdir HOME/elsewhere",
        ),
        Scene(
            "bind mount of a subfolder",
            "AS PYTHON fit.py",
            cwd="HOME/elsewhere",
            files=_FIT,
            prepare="mkdir HOME/elsewhere && mount --bind ROOT/jobs HOME/elsewhere",
        ),
        Scene(
            "bind mount of a subfolder in a namespace of its own, the root hidden",
            "unshare -m sh -c 'mount --bind ROOT/jobs HOME/elsewhere && mount -t tmpfs none ROOT && cd HOME/elsewhere "
            "&& exec AS PYTHON fit.py'",
            cwd="/",
            files=_FIT,
            prepare="mkdir HOME/elsewhere",
        ),
        Scene(
            "bind mount, absolute, from elsewhere",
            "unshare -m sh -c 'mount --bind ROOT HOME/elsewhere && exec AS PYTHON HOME/elsewhere/jobs/fit.py'",
            cwd="/",
            files=_FIT,
            prepare="mkdir HOME/elsewhere",
            wiped=False,
        ),
        Scene("another mount namespace", "unshare -m sh -c 'exec AS PYTHON jobs/fit.py'", files=_FIT),
        Scene(
            "chroot into the root",
            "chroot ROOT /bin/crunch",
            cwd="/",
            files={"native/crunch.c": _C.replace("BEFORE", "").replace("MARKS", "/marks")},
            prepare="mkdir -p ROOT/bin ROOT/marks && chmod 777 ROOT/marks && "
            "cc -static -o ROOT/bin/crunch ROOT/native/crunch.c",
            then="",
            marks=0,
            rests=("/bin/crunch",),
        ),
        Scene(
            "a root renamed under it",
            "venv/bin/python src/train.py --mode full",
            files=_TRAIN,
            prepare=_env("ROOT/venv"),
            then="sleep 1.2; mv ROOT ROOT-old && mkdir -p ROOT/src ROOT/models",
            wiped=False,
        ),
        Scene(
            "a root deleted and made anew, usual line",
            "venv/bin/python src/train.py --mode full",
            files=_TRAIN,
            prepare=_env("ROOT/venv"),
            then="rm -r ROOT && mkdir -p ROOT/src ROOT/models",
        ),
        Scene(
            "a root deleted and made anew, another line",
            "PYTHON jobs/fit.py",
            files=_FIT,
            then="rm -r ROOT && mkdir -p ROOT/src ROOT/models",
        ),
        Scene(
            "a subfolder deleted under it",
            "PYTHON ../jobs/fit.py",
            cwd="ROOT/run",
            files=_FIT | {"run/x": ""},
            then="rm -r ROOT/run",
        ),
        Scene("a root called deleted", "PYTHON jobs/fit.py", files=_FIT, root="app (deleted)"),
        Scene(
            "a root called deleted, usual line",
            "venv/bin/python src/train.py",
            files=_TRAIN,
            prepare=_env("'ROOT/venv'"),
            root="app (deleted)",
        ),
        Scene(
            "a deep folder of the root", "PYTHON HOME/deep.py ROOT/data", files={"HOME/deep.py": _DEEP, "data/x": ""}
        ),
        Scene("a thread with a folder of its own", "PYTHON HOME/t.py", cwd="/", files={"HOME/t.py": _THREAD_CWD}),
        Scene(
            "a root by a symlink",
            "PYTHON jobs/fit.py",
            cwd="HOME/link",
            files=_FIT,
            prepare="ln -s ROOT HOME/link",
            block_root="HOME/link",
        ),
        Scene(
            "a script by a symlink",
            "PYTHON HOME/link/jobs/fit.py",
            cwd="/",
            files=_FIT,
            prepare="ln -s ROOT HOME/link",
            wiped=False,
        ),
        Scene(
            "a script by a symlink to the file",
            "PYTHON HOME/nightly.py",
            cwd="/",
            files=_FIT,
            prepare="ln -s ROOT/jobs/fit.py HOME/nightly.py",
            wiped=False,
        ),
        Scene(
            "a script by dots",
            "PYTHON ../../..ROOT/jobs/../jobs/fit.py",
            cwd="/usr/lib/git-core",
            files=_FIT,
            wiped=False,
        ),
    ),
    *_group(
        "hold",
        Scene("a mapped model", "PYTHON HOME/score.py", cwd="/", files={"HOME/score.py": _MAPPED}),
        Scene(
            "a mapped model, by a shell's name",
            "bash -c 'exec -a bash PYTHON HOME/score.py'",
            cwd="/",
            files={"HOME/score.py": _MAPPED},
        ),
        Scene(
            "a model read by a memfd",
            "PYTHON HOME/load.py HOME/crunch ROOT/models/model_a.joblib /",
            files={**_CRUNCH, "HOME/load.py": _MEMFD},
            prepare=_COMPILED.format(to="HOME/crunch"),
            cwd="/",
        ),
        Scene(
            "a model read by a deleted program",
            "HOME/crunch",
            files={"native/crunch.c": _C.replace("BEFORE", 'open("ROOT/models/model_a.joblib", O_RDONLY);')},
            prepare=_COMPILED.format(to="HOME/crunch"),
            then="rm HOME/crunch",
            cwd="/",
        ),
        Scene(
            "a log open for writing",
            "PYTHON HOME/w.py",
            cwd="/",
            files={"HOME/w.py": spin("f = open('ROOT/logs/x.log', 'a')")},
        ),
        Scene(
            "tee into the logs", "sh -c 'PYTHON HOME/w.py | tee ROOT/logs/x.log'", cwd="/", files={"HOME/w.py": spin()}
        ),
        Scene("a shared writable mapping", "PYTHON HOME/w.py", cwd="/", files={"HOME/w.py": _SHARED}),
        Scene(
            "a shell that redirects",
            "bash -c ': > MARKS/mark-1; while :; do date; sleep 0.2; done > ROOT/artifacts/out'",
            cwd="/",
        ),
    ),
    *_group(
        "kin",
        Scene(
            "double fork by the environment",
            "venv/bin/python jobs/fit.py",
            files={"jobs/fit.py": spin(_DAEMON)},
            prepare=_env("ROOT/venv"),
        ),
        Scene(
            "double fork by the usual line", "PYTHON src/train.py", files={"src/train.py": spin(_DAEMON)}, wiped=False
        ),
        Scene(
            "a compiled daemon",
            "native/crunchd",
            files={"native/crunch.c": _C.replace("BEFORE", _C_DAEMON)},
            prepare=_COMPILED.format(to="ROOT/native/crunchd"),
        ),
        Scene(
            "a child elsewhere of a job",
            "PYTHON src/train.py",
            files={"src/train.py": spin(_STAYS), "HOME/worker.py": spin()},
            marks=2,
        ),
        Scene(
            "orphans in its session",
            "PYTHON src/train.py",
            files={"src/train.py": spin(_ORPHANS), "HOME/worker.py": spin()},
            marks=2,
        ),
        Scene(
            "a child elsewhere of a job of its own name",
            "PYTHON jobs/fit.py",
            files={"jobs/fit.py": spin(_STAYS), "HOME/worker.py": spin()},
            marks=2,
        ),
        Scene("a pipeline", "bash -c 'PYTHON src/train.py 2>&1 | tee -a logs/x.log'", files=_TRAIN),
        Scene("a pipeline of a job", "sh -c 'PYTHON jobs/fit.py | gzip > artifacts/x.gz'", files=_FIT),
        Scene("a pipeline that feeds", "sh -c 'yes | PYTHON jobs/fit.py'", files=_FIT),
        Scene(
            "a pipeline of coreutils",
            "sh -c 'tail -f /dev/null | tr a b | tail -n 1 > artifacts/x'",
            marks=0,
            rests=("tail -f", "tr ", "tail -n"),
        ),
        Scene(
            "a loop of bash -c in its sleep",
            "bash -c 'while :; do PYTHON src/train.py --mode full; sleep 60; done'",
            files={"src/train.py": _BURST},
            rests=("sleep 60",),
        ),
        Scene(
            "a loop of a script in its sleep",
            "bash nightly.sh",
            files={"src/train.py": _BURST, "nightly.sh": "while :; do PYTHON src/train.py; sleep 60; done\n"},
            rests=("sleep 60",),
        ),
        Scene(
            "a loop from elsewhere in its sleep",
            "bash -c 'while :; do (cd ROOT && PYTHON src/train.py --mode full); sleep 60; done'",
            cwd="HOME",
            files={"src/train.py": _BURST},
            rests=("sleep 60",),
            wiped=False,
        ),
        Scene(
            "a loop that was typed, in its sleep",
            "bash --norc",
            typed=("while :; do PYTHON src/train.py --mode full; sleep 60; done",),
            files={"src/train.py": _BURST},
            rests=("sleep 60",),
            terminal=True,
        ),
        Scene(
            "a loop by read -t, that was typed",
            "bash --norc",
            typed=("while :; do PYTHON src/train.py; read -t 1 < /dev/zero; exec 9< <(sleep 60); wait $!; done",),
            files={"src/train.py": _BURST},
            rests=("sleep 60",),
            terminal=True,
        ),
        Scene(
            "a loop of bash -c on a terminal",
            "bash -c 'while :; do PYTHON jobs/burst.py; sleep 60; done'",
            files={"jobs/burst.py": _BURST},
            rests=("sleep 60",),
            terminal=True,
        ),
        Scene(
            "a loop in Python in its sleep",
            "PYTHON launch.py",
            files={"jobs/burst.py": _BURST, "launch.py": _LAUNCHER},
            rests=("sleep 60",),
        ),
        Scene(
            "a loop in perl in its sleep",
            "perl loop.pl",
            files={"src/train.py": _BURST, "loop.pl": _PERL_LOOP},
            rests=("sleep 60",),
        ),
        Scene(
            "timeout around a loop",
            "timeout 999 sh -c 'while :; do PYTHON jobs/burst.py; sleep 60; done'",
            files={"jobs/burst.py": _BURST},
            rests=("sleep 60",),
        ),
        Scene(
            "watch",
            "watch -n 4 PYTHON jobs/burst.py",
            files={"jobs/burst.py": _BURST},
            terminal=True,
        ),
        Scene(
            "tmux with a loop in a pane",
            "tmux -S HOME/socket -f /dev/null new-session 'while :; do PYTHON jobs/burst.py; sleep 60; done'",
            files={"jobs/burst.py": _BURST},
            rests=("sleep 60",),
            terminal=True,
            wiped=False,
            innocent="tmux",
        ),
        Scene(
            "setsid of a shell's function",
            "bash -c 'job() { cd /; PYTHON HOME/worker.py; }; job & wait'",
            files={"HOME/worker.py": spin()},
        ),
    ),
)

_TAIL: Final = {"logs/train-1.log": "epoch 1\n" * 500}
_GIT: Final = (
    "printf '[safe]\\n\\tdirectory = *\\n[user]\\n\\temail = a@b\\n\\tname = a\\n' > HOME/.gitconfig && "
    'git init -q ROOT && for n in $(seq 99); do git -C ROOT commit -q --allow-empty -m "$n"; done'
)


def _harmless(name: str, command: str, **more: Any) -> Scene:
    return Scene(name, command, **({"marks": 0, "wiped": False, "terminal": True} | more))


HARMLESS: Final = (
    _harmless("bash", "bash --norc", rests=("bash",)),
    _harmless("a login bash", "bash -c 'exec -a -bash bash --norc'", rests=("-bash",)),
    _harmless("sh", "sh", rests=("sh",)),
    _harmless(
        "bash with a stopped job",
        "bash --norc",
        typed=("tail -f /dev/null & while ! pgrep -P $$ -x tail; do :; done; kill -STOP %1",),
        rests=("bash", "tail"),
    ),
    _harmless("vim", "vim -u NONE src/train.py", files=_TRAIN, rests=("vim",)),
    _harmless("vim, typed", "bash --norc", typed=("vim -u NONE jobs/fit.py",), files=_FIT, rests=("bash", "vim")),
    _harmless("nano", "nano src/train.py", files=_TRAIN, rests=("nano",)),
    _harmless("less", "less logs/train-1.log", files=_TAIL, rests=("less",)),
    _harmless("less, from elsewhere", "less ROOT/logs/train-1.log", cwd="/", files=_TAIL, rests=("less",)),
    _harmless("tail -f", "tail -f logs/train-1.log", files=_TAIL, rests=("tail",)),
    _harmless("tail -F and grep", "bash --norc", typed=("tail -F logs/train-1.log | grep --line-buffered loss",),
        files=_TAIL, rests=("tail", "grep")),
    _harmless("tail -f without a terminal", "tail -n 5 -f ROOT/logs/train-1.log", cwd="/", files=_TAIL,
        terminal=False, rests=("tail",)),
    _harmless("tmux", "tmux -S HOME/socket -f /dev/null new-session", rests=("tmux",)),
    _harmless("git log", "git -c core.pager=less log", prepare=_GIT, rests=("git", "/usr/bin/less")),
    _harmless("git grep", "bash --norc", typed=("git log -p | less",), prepare=_GIT,
        rests=("bash", "less")),
    _harmless("rsync", "rsync -a --bwlimit=1 ./data/ HOME/copy/", files={"data/x": "x" * 300_000}, terminal=False,
        rests=("rsync",)),
    _harmless("tar into a pager", "bash --norc", typed=("tar -cf - data | less -f",), files={"data/x": "x\n" * 450_000},
        rests=("tar", "less")),
    _harmless("top", "top", rests=("top",)),
    _harmless("sqlite3", "sqlite3 data/mlflow.db", prepare="mkdir ROOT/data && chmod 777 ROOT/data",
        rests=("sqlite3",)),
    _harmless("grep that quotes", "bash --norc", typed=("grep -rn 'python src/train.py --mode full' . - ",),
        files=_TRAIN, rests=("grep",)),
    _harmless("more", "more logs/train-1.log", files=_TAIL, rests=("more",)),
    _harmless("diff in a pager", "bash --norc", typed=("diff -u src/a src/b | less",), files={
        "src/a": "a\n" * 300, "src/b": "b\n" * 300}, rests=("less",)),
    _harmless("script", "script -q -c 'bash --norc' HOME/typescript", rests=("script", "bash")),
    _harmless("another workload", "venv/bin/python -u src/train.py --mode full", cwd="HOME/other",
        files={"HOME/other/src/train.py": spin()}, prepare=_env("HOME/other/venv"), terminal=False, marks=1),
    _harmless("another API", "HOME/other/venv/bin/python -m uvicorn api.app:app --port 8001", cwd="HOME/other",
        files={"HOME/other/api/app.py": spin()}, prepare=_server("HOME/other/venv"), terminal=False, marks=1),
    _harmless("a person's Python elsewhere", "PYTHON HOME/notes.py", cwd="HOME", files={"HOME/notes.py": spin()},
        terminal=False, marks=1),
    _harmless("a person's node elsewhere", "node HOME/site.js", cwd="HOME", files={"HOME/site.js": _NODE},
        terminal=False, marks=1),
    _harmless("a stranger in a deep folder", "PYTHON HOME/deep.py HOME", cwd="HOME", files={"HOME/deep.py": _DEEP},
        terminal=False, marks=1),
    _harmless("a thread elsewhere with a folder of its own", "PYTHON HOME/apart.py", cwd="HOME",
        files={"HOME/apart.py": _THREAD_CWD.replace("ROOT", "HOME")}, terminal=False, marks=1),
    _harmless("a deleted folder elsewhere", "PYTHON HOME/notes.py", cwd="HOME/gone", files={
        "HOME/notes.py": spin(), "HOME/gone/x": ""}, then="rm -r HOME/gone", terminal=False, marks=1),
    _harmless("emacs-like vim with an argument that quotes", "vim -u NONE +/src/train.py notes.md",
        files={"notes.md": "run: python src/train.py --mode full\n"}, rests=("vim",)),
    _harmless("a folder called alike", "PYTHON jobs/fit.py", cwd="ROOT-old", prepare="mkdir -p ROOT-old/jobs && "
        "cp HOME/fit.py ROOT-old/jobs/", files={"HOME/fit.py": spin()}, terminal=False, marks=1),
)  # fmt: skip

_HTTP: Final = "PYTHON -m http.server 8765 --bind 127.0.0.1"
_PARENT_JS: Final = """
const { spawn } = require('child_process');
spawn(process.execPath, ['HOME/host.js', '--type=extensionHost'], { stdio: 'ignore' });
spawn('bash', ['--norc', '-i'], { stdio: 'ignore' });
"""
_KERNEL: Final = """
import subprocess
subprocess.Popen(['PYTHON', 'HOME/ipykernel_launcher.py', '-f', 'HOME/kernel-1.json'], cwd='ROOT/notebooks')
"""

UNKNOWN: Final = (
    _harmless("an editor's server", "node HOME/server-main.js --start-server", files={
        "HOME/server-main.js": _PARENT_JS + _NODE, "HOME/host.js": _NODE}, terminal=False, marks=2),
    _harmless("an editor's language server", "node HOME/pyright.js --stdio", files={"HOME/pyright.js": _NODE},
        terminal=False, marks=1),
    _harmless("http.server", _HTTP, terminal=False, rests=("PYTHON -m http.server",)),
    _harmless("a board of trainings", "PYTHON HOME/tensorboard --logdir logs", files={"HOME/tensorboard": spin()},
        terminal=False, marks=1),
    _harmless("a coding agent", "node HOME/agent/cli.js", files={"HOME/agent/cli.js": _NODE}, marks=1),
    _harmless("a notebook", "PYTHON HOME/jupyter-lab --no-browser", files={
        "HOME/jupyter-lab": spin(_KERNEL), "HOME/ipykernel_launcher.py": spin(), "notebooks/x": ""},
        terminal=False, marks=2),
    _harmless("a watcher", "perl HOME/guard.pl", files={"HOME/guard.pl": _PERL}, terminal=False, marks=1),
    _harmless("quotes in its line", "PYTHON HOME/x.py 'it''s' \"a 'word'\" (x|y) \\$HOME 日本", files={
        "HOME/x.py": spin()}, terminal=False, marks=1),
    _harmless("a secret in its line", "PYTHON HOME/x.py --token=abcdef0123456789 --port 1", files={
        "HOME/x.py": spin()}, terminal=False, marks=1),
    _harmless("a long line", f"PYTHON HOME/x.py {'--option=value ' * 90}", files={"HOME/x.py": spin()},
        terminal=False, marks=1),
)  # fmt: skip
"""Who has to be named by a person: nothing ties them to the workload, and nothing proves them harmless."""


@dataclass(frozen=True)
class Alive:
    """A process of a scene, found without any code of the product."""

    pid: int
    parent: int
    start: str
    state: str
    command: str


def tagged(group: int) -> dict[int, Alive]:
    """Those with a group that have not ended: a thread of theirs lives."""
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if entry.name.isdigit() and _has(entry, group) and (state := _state(entry)):
                words = (entry / "stat").read_text().rpartition(") ")[2].split()
                command = (entry / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
                found[int(entry.name)] = Alive(int(entry.name), int(words[1]), words[19], state, command)
    return found


def _has(entry: Path, group: int) -> bool:
    lines = (entry / "status").read_text().splitlines()
    return str(group) in next(line for line in lines if line.startswith("Groups:")).split()


def _state(entry: Path) -> str:
    """How its threads are; empty if all have ended. What waits and what runs are one state."""
    states = set()
    for thread in (entry / "task").iterdir():
        with suppress(OSError):
            states.add((thread / "stat").read_text().rpartition(") ")[2][0])
    return "".join(sorted({"T" if each in "Tt" else "S" for each in states - set("ZX")}))


class Stage:
    """The folders of a scene, and who is started there."""

    def __init__(self, folder: Path, root: str, *, unprivileged: bool) -> None:
        """Lay out the root, a home elsewhere, and the folder for marks."""
        self.folder, self.root, self.home, self.marks = folder, folder / "srv" / root, folder / "home", folder / "marks"
        self.uid = _ACCOUNT if unprivileged else 0
        for place in (
            self.home,
            self.marks,
            self.root,
            *(self.root / each for each in ("models", "artifacts", "logs")),
        ):
            place.mkdir(parents=True, exist_ok=True)
        (self.root / "models/model_a.joblib").write_bytes(b"x" * 5000)
        (self.root / "logs/state.bin").write_bytes(b"x" * 5000)
        (self.root / "src").mkdir(exist_ok=True)
        open_the_way(folder)
        self.places = {"ROOT": str(self.root), "HOME": str(self.home), "MARKS": str(self.marks), "PYTHON": PYTHON}

    def placed(self, text: str, uid: int | None = None) -> str:
        """Put the places of this scene into a text."""
        account = f"{self.uid if uid is None else uid}"
        for name, place in {**self.places, "ACCOUNT": f"{account}:{account}"}.items():
            text = text.replace(name, place)
        return text

    def _run(self, script: str, uid: int) -> None:
        if script:
            env = {**os.environ, "HOME": str(self.home)}
            subprocess.run(["sh", "-euc", self.placed(script, uid)], cwd=self.folder, env=env, check=True)

    def _give(self) -> None:
        if self.uid:
            subprocess.run(["chown", "-RhP", f"{self.uid}:{self.uid}", str(self.root)], check=True)
        for path in (self.root, self.home, self.marks):
            subprocess.run(["chmod", "-R", "a+rwX", str(path)], check=True)

    def lay(self, scene: Scene, uid: int) -> None:
        """Write a scene's files, and let root prepare it."""
        for name, text in scene.files.items():
            path = Path(self.placed(name)) if name.startswith("HOME") else self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.placed(text))
            path.chmod(0o755)
        self._run(scene.prepare, uid)
        self._give()

    def begin(self, scene: Scene, group: int, uid: int, number: str) -> None:
        """Start a scene and wait until it is at work."""
        before = {path.name for path in self.marks.iterdir()}
        ids = [f"--reuid={uid}", f"--regid={uid}"] if uid else []
        account = " ".join(["setpriv", *ids, "--keep-groups"]) if uid else "env"
        text = scene.command.replace("ROOT", str(self.root).replace(" ", "\\ "))
        words = shlex.split(self.placed(text.replace("AS ", f"{account} ")))
        launch = ["setpriv", f"--groups={group}"]
        if "AS " not in scene.command and "chroot" not in scene.command:
            launch += ids
        elif "chroot" in scene.command and uid:
            words = ["chroot", f"--userspec={uid}:{uid}", f"--groups={group}", *words[1:]]
        folder = self.placed(scene.cwd)
        environment = {name: self.placed(value) for name, value in scene.environment.items()}
        known = {name: os.environ[name] for name in ("LANG",) if name in os.environ}
        known |= {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(self.home), "TERM": "xterm"}
        orders, keeper = self.folder / f"orders-{number}.json", self.folder / "keeper.py"
        typed = [self.placed(each) for each in scene.typed]
        notes = str(self.folder / f"notes-{number}")
        keeper.write_text(_KEEPER)
        kept = scene.terminal or group == BESIDE_IT
        orders.write_text(json.dumps([notes, [*launch, *words], folder, typed, scene.terminal]))
        start = [sys.executable, str(keeper), str(orders)] if kept else [*launch, *words]
        with (self.folder / f"output-{number}").open("ab") as opened:
            subprocess.run(
                ["setsid", "--fork", *start],
                cwd="/" if kept else folder,
                env={**known, **environment},
                stdin=subprocess.DEVNULL,
                stdout=opened,
                stderr=opened,
                check=True,
            )

        def at_work() -> bool:
            lines = [each.command for each in tagged(group).values()]
            wanted = [self.placed(each) for each in scene.rests]
            marks = {path.name for path in self.marks.iterdir()} - before
            return len(marks) >= scene.marks and all(any(line.startswith(each) for line in lines) for each in wanted)

        try:
            wait_until(at_work, 30, f"{scene.name} at work")
        except AssertionError as error:
            output = (self.folder / f"output-{number}").read_text(errors="replace")[-600:]
            raise AssertionError(f"{error}: {tagged(group)}: {output}") from error
        self._run(scene.then, uid)
        if group == BESIDE_IT:
            self._settle(group)

    @staticmethod
    def _settle(group: int) -> None:
        """Wait until two looks in a row see the same: a shell begins with children that pass."""
        looks = [set[int](), set(tagged(group))]

        def same() -> bool:
            time.sleep(0.1)
            looks.append(set(tagged(group)))
            return looks[-1] == looks[-2] == looks[-3]

        wait_until(same, 30, "rest")

    def signals(self, number: str) -> list[str]:
        """What the kernel told the keeper of its child."""
        path = self.folder / f"notes-{number}"
        return path.read_text().splitlines() if path.exists() else []


def wipe(pid: int) -> None:
    """Overwrite the arguments of a process, as it may itself. An ended one stays as it is."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        begin, end = int(words[45]), int(words[46])
        if begin:
            with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
                memory.seek(begin)
                memory.write(_TITLE[: end - begin - 1].ljust(end - begin, b"\0"))


def on_a_host_of_its_own(act: Callable[[], Any]) -> Any:
    """Do something in namespaces of its own, below a first process that only reaps; all ends with it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os._exit(_host(act, writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    assert text, "the scene's host has ended without a word"
    given = json.loads(text)
    assert "error" not in given, given["error"]
    return given["result"]


def _host(act: Callable[[], Any], writing: int) -> int:
    kernel = ctypes.CDLL(None, use_errno=True)
    if kernel.unshare(_NAMESPACES):
        return 1
    first = os.fork()
    if first:
        os.close(writing)
        os.waitpid(first, 0)
        return 0
    os.setsid()
    kernel.mount(b"none", b"/", None, 0x40000 | 0x4000, None)  # private, with all below
    kernel.mount(b"proc", b"/proc", b"proc", 0, None)
    with socket.socket() as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP))
    actor = os.fork()
    if not actor:
        os.setsid()
        _act(act, writing)
    os.close(writing)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.wait()[0] != actor:
        pass
    return 0


def _act(act: Callable[[], Any], writing: int) -> None:
    try:
        given = {"result": act()}
    except BaseException:  # noqa: BLE001  whatever it is, the test has to see it
        given = {"error": traceback.format_exc()}
    with os.fdopen(writing, "w") as answer:
        json.dump(given, answer)
    os._exit(0)


def starters(pid: int, alive: Mapping[int, Alive]) -> Sequence[int]:
    """A process and those above it that live and belong to the same."""
    chain = []
    while pid in alive and pid not in chain:
        chain.append(pid)
        pid = alive[pid].parent
    return chain
