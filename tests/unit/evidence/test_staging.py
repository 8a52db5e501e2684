"""What becomes of a file that an attempt has taken, where another lies in its place already."""

from pathlib import Path

from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.store.manifest import digest, digest_bytes
from tasks.evidence.staging import keep, staging
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

MODEL = StoredFile("models/m", "models/m", 3, digest_bytes(b"new"))


def kept(small: SmallWorkload, before: str) -> Path:
    """The evidence folder after the model was kept where `before` lies."""
    with case_of(small.block()) as context:
        evidence = context.directory.evidence_dir(1)
        (evidence / before).parent.mkdir(parents=True)
        (evidence / before).write_bytes(b"old")
        with staging(context.directory, "models") as at:
            (at.folder / "models").mkdir()
            (at.folder / "models/m").write_bytes(b"new")
            assert keep(context.directory, 1, at, MODEL) == MODEL
        return evidence


def test_another_file_of_its_name_is_put_aside(small: SmallWorkload) -> None:
    evidence = kept(small, "models/m")
    assert digest(evidence / "models/m") == MODEL.sha256
    assert (evidence / "attempt-1/models/m").read_bytes() == b"old"


def test_a_folder_of_its_name_is_put_aside_too(small: SmallWorkload) -> None:
    evidence = kept(small, "models/m/x")
    assert digest(evidence / "models/m") == MODEL.sha256
    assert (evidence / "attempt-1/models/m/x").read_bytes() == b"old"
