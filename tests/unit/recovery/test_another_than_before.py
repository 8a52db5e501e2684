"""A model that comes back is the one that was served, or a person is told that nobody knows."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tasks.custody.containment.identity import NOBODY
from tasks.custody.containment.receipt import NOT_AS_BEFORE, Recovery
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.models.contract import ServedBefore
from tasks.recovery.newer import with_newer
from tasks.recovery.served_model import SealedModels

A, B = "a" * 64, "b" * 64
BOTH = ServedBefore(("models/a.bin", "models/b.bin"), frozenset({A, B}), "open")


def models(*digests: str, **about: object) -> SealedModels:
    files = {
        f"models/{each[0]}.bin": StoredFile(f"models/{each[0]}.bin", f"models/{each[0]}.bin", 9, each)
        for each in digests
    }
    return SealedModels(files, tuple(files.values()), (), **about)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sealed", "served", "told"),
    [
        (models(A), {A}, False),
        (models(A, B), {A, B}, False),  # a model and what goes along with it
        (models(A, B), {A}, True),  # /reload had brought b, which nobody can see any more
        (models(A, B, chosen="models/a.bin"), {A}, False),  # the block names it
        (models(A, B, chosen="models/a.bin", named=True), {A}, False),
        (models(A, B, before=ServedBefore(("models/b.bin",), frozenset({B}), "open")), {A}, True),
        (models(A, B, before=ServedBefore(("models/a.bin",), frozenset({A}), "open")), {A}, False),
        (models(A, B, before=BOTH), {A}, False),
        (models(A, B, before=replace(BOTH, undecided=True)), {A}, True),
        (models(A, B, before=replace(BOTH, undecided=True), chosen="models/a.bin"), {A}, False),
    ],
)
def test_another_model_than_before_is_told_and_so_is_that_nobody_knows(
    sealed: SealedModels,
    served: set[str],
    told: bool,  # noqa: FBT001
) -> None:
    assert bool(sealed.explain_other_model(served)) is told


@pytest.mark.parametrize(
    ("chosen", "named", "before", "message"),
    [
        ("", False, ServedBefore(), ""),
        ("models/a.bin", True, ServedBefore(), ""),
        ("models/a.bin", False, ServedBefore(("models/b.bin",), frozenset({B}), "open"), "models/b.bin (open)"),
        (
            "models/a.bin",
            False,
            ServedBefore(),
            "models/a.bin (named by its start alone; nothing of its process proves it)",
        ),
    ],
)
def test_what_only_its_start_names_is_said_to_have_been_served_and_not_proven(
    chosen: str,
    named: bool,  # noqa: FBT001
    before: ServedBefore,
    message: str,
) -> None:
    assert models(A, B, chosen=chosen, named=named, before=before).served_at_freeze == message


@pytest.mark.parametrize(
    ("doubt", "newer", "named", "told"),
    [
        ("", (), False, ()),
        ("", ("a.json was changed at 1",), False, ("a.json",)),
        ("", ("a.json was changed at 1",), True, ()),
        (f"{NOT_AS_BEFORE}: m.bin was changed", ("a.json was changed at 1",), False, ("m.bin", "a.json")),
        (f"{NOT_AS_BEFORE}: m.bin was changed", ("m.bin was changed at 1",), False, ("m.bin",)),
        ("", [f"{name}.json was changed at 1" for name in "abcde"], False, ("a.json", "c.json", "and 2 more")),
    ],
)
def test_a_doubt_about_the_model_hides_no_newer_file(
    doubt: str,
    newer: tuple[str, ...],
    named: bool,  # noqa: FBT001
    told: tuple[str, ...],
) -> None:
    """A person named the model, and had not been told of the configuration."""
    was = Recovery(datetime.now(UTC), NOBODY, "m.bin", A, "", "", unproven=(doubt,) if doubt else ())
    now = with_newer(was, newer, models(A, named=named)).unproven
    assert all(each in " ".join(now) for each in told)
    assert len(now) == len(was.unproven) + any(each.endswith(".json") for each in told)
