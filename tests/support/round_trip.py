"""What an incident has left in a store comes back whole, latest/ is as it was before, and the audit still agrees."""

from pathlib import Path

from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import AuditWord
from tasks.latest.pull import pull
from tasks.latest.rollback import RollbackRequest, rollback
from tests.support.holdings import Unheard
from tests.support.scenes import Scene


def require_back_and_undone(scene: Scene, incident: str, model: bytes, folder: Path) -> None:
    """Pull latest/, incident and snapshot into folders of their own; undo the turn, and read every byte again."""
    for what in ("latest", incident, incident.removeprefix("IR-")):
        (folder / what).mkdir()
        pulled = pull(scene.store, what, folder / what)
        assert pulled.is_complete, pulled.summary
    assert (folder / "latest/models/model_builtin.joblib").read_bytes() == model
    undone = rollback(scene.store_block.open_latest(), RollbackRequest("a test"), Unheard())
    assert undone.is_complete, undone.summary
    assert list(scene.store.list("latest/")) == []
    assert verify_incident(scene.store, incident, None, deep=True).word is not AuditWord.BROKEN
