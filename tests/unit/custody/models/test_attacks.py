"""No hostile model is sound: what the public scanners have met, in each form, with and without a second opinion."""

import contextlib
import io
import os
import pickle
from pathlib import Path

import joblib
import pytest

from tasks.custody.models.inspection import Soundness
from tasks.custody.models.judge import judge
from tasks.models.scanner import scan
from tests.support.hostile_models import CALLED, HONEST, attacks, carried, later

PROTO = b"\x80\x04"


def outcome(data: bytes) -> tuple[Soundness, Soundness]:
    """With our own reading alone, and with a second opinion."""
    file = io.BytesIO(data)
    return judge(file, (), lambda _: ())["outcome"], judge(file, (), scan)["outcome"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", CALLED)
def test_no_function_of_the_public_lists_makes_a_sound_model(kind: str) -> None:
    files = {(dotted, way): data for dotted in CALLED[kind].split() for way, data in carried(dotted).items()}
    found = {which: outcome(data) for which, data in files.items()}
    print(f"{kind}: {len(files)} files")
    assert {which: told for which, told in found.items() if told != (Soundness.SUSPECT, Soundness.SUSPECT)} == {}


@pytest.mark.slow
@pytest.mark.parametrize("dotted", ["os.mkdir", "posix.mkdir", "evilmod.run", "numpy.load", "sklearn.base.os.mkdir"])
def test_no_way_of_hiding_a_call_makes_a_sound_model(dotted: str) -> None:
    files = dict(attacks(dotted, b"canary"))
    assert len(files) > 45
    found = {way: outcome(data) for way, data in files.items()}
    print(f"{dotted}: {len(files)} files, {sum(Soundness.SUSPECT in told for told in found.values())} of them suspect")
    assert {way: told for way, told in found.items() if Soundness.SOUND in told} == {}


def test_what_the_attacks_are_hidden_in_is_sound() -> None:
    for data in (HONEST, later(b"N"), PROTO + b"](" + HONEST[2:-1] + b"Ne."):
        assert outcome(data) == (Soundness.SOUND, Soundness.SOUND)


def test_the_attacks_are_real(tmp_path: Path) -> None:
    made = set()
    files = dict(attacks("os.mkdir", os.fsencode(tmp_path / "canary")))
    del files["packed by gzip in two members"]  # joblib asks for memory without end
    for way, data in files.items():
        for load in (joblib.load,) if way.startswith("packed") else (joblib.load, pickle.load):
            with contextlib.suppress(Exception):
                load(io.BytesIO(data))
            with contextlib.suppress(FileNotFoundError):
                (tmp_path / "canary").rmdir()
                made.add(way)
    print(f"{len(made)} of the ways made a folder when they were loaded: {sorted(made)}")
    assert len(made) > 30
