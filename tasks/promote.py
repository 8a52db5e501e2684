"""§5: let latest/ follow: the API and `make s3-pull` read it, so it changes last and never loses a good file."""

from collections.abc import Sequence
from typing import Final

from tasks.case import Case
from tasks.custody.evidence import Seal
from tasks.custody.keys import promoter, promotion_key
from tasks.custody.manifest import canonical, digest_bytes
from tasks.custody.objects import Expected, latest_objects
from tasks.custody.receipt import ObjectReceipt, Receipts
from tasks.custody.verdict import Verdict, Word
from tasks.inspect_models import held_back
from tasks.offload import at_once, prove, transient
from tasks.seal import read_manifest
from tasks.step import step

_SHOWN: Final = 10


def _once(case: Case, seals: Sequence[Seal], verdict: Verdict) -> str:
    """An incident promotes what it sealed once: run again later, it must not bring the past back."""
    return f"{case.place}:{','.join(sealed.manifest_sha256 for sealed in seals)}:{verdict.word}"


@step("§5 promote latest/", "latest/ の更新", key=_once, retries=2, delay=2.0, retry_if=transient)
def promote(case: Case, seals: Sequence[Seal], verdict: Verdict) -> Receipts:
    """Copy file by file, only after VERIFIED, only what is sound, and only if no later incident did so before."""
    if verdict.word is not Word.VERIFIED:
        return Receipts((), f"latest/ was left as it is: the incident is {verdict.word}")
    done = [promoter(each.key) for each in case.store.list("promotions/")]
    if later := [incident for incident in done if incident > case.incident.id]:
        return Receipts((), f"latest/ was left as it is: {max(later)} is later and has promoted")
    newest: dict[str, Expected] = {}
    held: dict[str, str] = {}
    for sealed in seals:
        manifest = read_manifest(case, sealed.volume)
        back = held_back(case, sealed.volume, manifest.files)
        passed = [file.stored for file in manifest.files if file.stored not in back]
        held = {stored: why for stored, why in held.items() if stored not in passed} | back
        newest |= {item.key: item for item in latest_objects(manifest, passed)}
    _announce(case, len(seals), newest)
    receipts = at_once(lambda item: _promote_one(case, item), newest.values())
    return Receipts(tuple(receipts), _told(held))


def _told(held: dict[str, str]) -> str:
    shown = [f"{stored} ({why})" for stored, why in list(held.items())[:_SHOWN]]
    more = [f"{len(held) - _SHOWN} more"] if len(held) > _SHOWN else []
    return f"not promoted: {'; '.join([*shown, *more])}" if held else ""


def _announce(case: Case, volumes: int, items: dict[str, Expected]) -> None:
    """Leave a create-only record of the promotion before the first file changes."""
    about = canonical({"incident": case.incident.id, "objects": {key: item.sha256 for key, item in items.items()}})
    case.store.create(promotion_key(case.incident.id, volumes), about, digest_bytes(about))


def _promote_one(case: Case, item: Expected) -> ObjectReceipt:
    before = case.store.look(item.key)
    if before is None or before.sha256 != item.sha256:
        case.store.copy(item.origin, item.key, item.sha256, replace=True)
        case.log.write("promoted", item.key, sha256=item.sha256, replaced=before.sha256 if before else None)
    return prove(case, item)
