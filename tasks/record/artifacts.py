"""§8: build the artifacts that a run shows in the UI, the verdict first."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from tasks.custody.evidence.keys import MANIFEST, evidence_key, postmortem_key, record_key
from tasks.record import postmortem as chapter
from tasks.record.content import ReportData
from tasks.record.dry_run_plan import plan
from tasks.record.postmortem import Chapter, document
from tasks.record.render import HTML, with_pictures
from tasks.record.tables import objects
from tasks.rendering.document import Block, Both, Cell, Code, Document, FactList, Link, Remark, Section, Tone
from tasks.runtime.artifact import PrefectArtifact, Rows, by_key
from tasks.runtime.progress import artifact_key

PLAN: Final = "plan"
_Page: TypeAlias = tuple[str, Both, Document | Rows]


def build_artifacts(data: ReportData, postmortem: Document) -> Sequence[PrefectArtifact]:
    """Build all artifacts, numbered in reading order; the first links to the others."""
    pages: list[tuple[str, Both, tuple[Chapter, ...]]] = [
        ("manifest", _MANIFEST, (chapter.PROOF, chapter.MISSING, chapter.MODELS, chapter.EVIDENCE)),
        ("receipts", Both("受領書", "Receipts"), (chapter.ACTIONS, chapter.RECEIPTS, _OBJECTS)),
        ("timeline", chapter.TIMELINE.title, (chapter.DETECTED, chapter.TIMELINE, chapter.MOMENTS)),
    ]
    others: list[_Page] = [(PLAN, Both("予行の計画", "What would be done"), plan(data.entries))] if data.dry_run else []
    others += [(name, title, document(title, data, chapters)) for name, title, chapters in pages]
    others.append(("postmortem", postmortem.title, postmortem))
    verdict = document(_VERDICT, data, (chapter.SUMMARY, _PLACES))
    keys = [(title, artifact_key(name, data.incident.id)) for name, title, _ in others]
    links = FactList(tuple((title, Link(key, by_key(key))) for title, key in keys))  # a UI sorts artifacts otherwise
    verdict = replace(verdict, sections=(*verdict.sections, Section(Both("続きを読む", "Read on"), (links,))))
    first: _Page = ("verdict", _VERDICT, verdict)
    return tuple(_artifact(data, number, page) for number, page in enumerate((first, *others), 1))


def _artifact(data: ReportData, number: int, page: _Page) -> PrefectArtifact:
    name, title, content = page
    description = f"{number} · {title.ja} / {title.en}: {data.incident.id}, run {data.number}"
    text = with_pictures(content) if isinstance(content, Document) else content
    return PrefectArtifact(artifact_key(name, data.incident.id), description, text)


def _where(data: ReportData) -> list[Block]:
    """Return the incident's folder on this host, and links to the store's manifests and record."""
    incident, places = data.incident.id, data.places
    facts: list[tuple[Both, Cell]] = [(Both("このホスト", "on this host"), Code(places.home))]
    if not data.dry_run:
        page = postmortem_key(incident, f"{data.number:03d}.html")
        page = page if data.finished else record_key(incident, data.number, HTML)
        manifests = [evidence_key(incident, each.volume, MANIFEST) for each in data.findings.seals]
        links = (
            (Both("保全先", "in the store"), f"incidents/{incident}/"),
            *((Both("マニフェスト", "manifest"), key) for key in manifests),
            (Both("この記録", "this record"), page),
        )
        facts += [(title, Link(f"{places.store}/{key}", places.address(key))) for title, key in links]
        facts += [(Both("リンク", "links"), _CREDENTIALS)] if places.address("") else []
    return [FactList(tuple(facts))]


def _stored_objects(data: ReportData) -> list[Block]:
    table = objects(data.findings.objects, data.places.address)
    return [table or Remark(Tone.FAIR, Both("保全先に確認を求めていない。", "The store was asked for no proof."))]


_CREDENTIALS: Final = Both(
    "開くには保全先の認証が必要。evacuation pull はブロックの認証で取得する",
    "they ask for the store's credentials; evacuation pull brings what they lead to with those of its block",
)
_VERDICT: Final = Both("判定", "Verdict")
_MANIFEST: Final = Both("マニフェストの要約", "Manifest summary")
_PLACES: Final = Chapter(Both("保管場所", "Where it lies"), _where)
_OBJECTS: Final = Chapter(Both("保全先の確認", "What the store said of each object"), _stored_objects)
