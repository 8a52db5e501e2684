"""Named services on a host that systemd has not booted: contained by signals, and said so once."""

import shutil
from pathlib import Path

import pytest

from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.host.unit import systemd
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

pytestmark = pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd has booted this host")


@pytest.mark.whole
@pytest.mark.parametrize("installed", [True, False])
def test_without_systemd_a_word_says_so_and_nothing_half_done_is_left(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, installed: bool
) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    monkeypatch.setattr(systemd, "_SYSTEM", etc)
    if not installed:
        (tmp_path / "bin").mkdir()
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    elif not shutil.which("systemctl"):
        pytest.skip("needs systemctl (Debian's systemd)")
    small.start_all()
    with case_of(small.block(units=["portfolio-api.service"])) as context:
        results = [made(verb.fn(context)) for verb in (cordon, freeze, stop)]
        assert all(each.is_complete for each in results)
        assert made(prove_contained.fn(context)).alive == ()
        (note,) = (told for each in results for told in each.warnings)
    assert note.startswith("expected systemd to keep down portfolio-api.service; got: ")
    assert "シグナルのみで封じ込め" in note
    assert list(etc.iterdir()) == []
    assert small.living() == []
