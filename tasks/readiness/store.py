"""Look at the store: one canary a host, its lock, credentials, promoter, signature and time stamp. Deletes nothing."""

import json
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from blocks.credentials import Credentials
from blocks.port import Probed, Store, StoredObject
from tasks.collectors.clock import kernel
from tasks.custody.audit.signers import read_signers
from tasks.custody.errors import Denied, EvacuationError
from tasks.custody.incident.incident import principal_of
from tasks.custody.incident.readiness import Finding, Readiness, fatal, finding_of_error, loss, sound
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.signature import signer, signer_line
from tasks.custody.store.timestamp import stamped_at
from tasks.evidence.claim import UNSHARE, name_sharing, other_workloads
from tasks.evidence.time_stamp import time_stamp as ask_authority
from tasks.incident.store_folder import note_own_account, why_not_trusted
from tasks.readiness.check_target import CheckTarget
from tasks.storage.rotations import with_rotations

_UNPROVEN: Final = "the evidence stays on this host: Unverified"
_SKEW_SECONDS: Final = 30.0
_REFUSED_SECONDS: Final = 600.0
_NIGHT: Final = timedelta(days=1)


def check_canary(target: CheckTarget) -> Finding:
    """Write the host's canary and read back what the store says of it."""
    start = datetime.now(UTC)
    text = json.dumps({"host": socket.gethostname(), "written": start.isoformat()}).encode()
    try:
        stored = _probe(target.writer, "ready", text)
    except EvacuationError as error:
        return finding_of_error(error, _UNPROVEN)
    except ValidationError as error:
        reasons = "; ".join(each["msg"] for each in error.errors())
        return fatal(f"the block {target.store} cannot be used: {reasons}", _UNPROVEN, "correct it, and save it")
    if stored is None:
        return fatal("what was written is not there", _UNPROVEN, "read what the store does: docs/offload.md")
    target.seen, took = stored, datetime.now(UTC) - start
    target.skew = None if stored.modified is None else abs(stored.modified - start)
    if stored.sha256 != digest_bytes(text):
        cure = "docs/offload.md, 'What a store is believed'"
        return loss(f"the digest that the store tells is {stored.sha256}", "every byte of evidence is read back", cure)
    return sound(f"{target.block.place}: written and proven in {took.total_seconds():.2f} s")


def _probe(store: Store, prefix: str, text: bytes) -> StoredObject | None:
    if not isinstance(store, Probed):
        raise TypeError(f"{type(store).__name__} cannot be tried")
    return store.probe(f"{prefix}-{socket.gethostname()}", text)


def check_folder(target: CheckTarget) -> Finding:
    """Look whether another account can change a store that is a folder: its owner, mode, links, and all above it."""
    block = target.block
    if block.folder is None:
        return sound("not a folder: a bucket's own rights decide who may change it")
    if distrust := why_not_trusted(block, target.workload):
        return fatal(distrust.why, "what lies there can be taken away or forged: Unverified", distrust.cure)
    if own := note_own_account(block, target.workload):
        return loss(own, "what runs as that account can change the evidence", "evacuation install, as root")
    return sound(f"{block.folder} and all above it can be changed by {block.folder_owner or 'nobody else'}")


def check_sharing(target: CheckTarget) -> Finding:
    """Look by what is in the store whether latest/ is another workload's too."""
    block = target.block
    if block.latest == "never":
        return sound("latest/ is never changed")
    if target.seen is None:  # its check has said why, and one that does not answer is not asked again
        return sound("not looked at: the canary is not in the store")
    try:
        others = other_workloads(target.writer, target.name)
    except EvacuationError as error:
        return finding_of_error(error, "another workload's latest/ could be taken for this one's", loss)
    if others:
        found = name_sharing(others, block.place)
        return loss(found, "a file replaces what another workload has under its name", UNSHARE)
    return sound("no incident of another workload lies there")


def check_room(target: CheckTarget) -> Finding:
    """Compare what would be sent with the room of a store that is a folder."""
    folder = target.block.folder
    if folder is None or not folder.is_dir():
        return sound("not a folder: a bucket tells nobody how much it takes")
    fits, summary = target.fits(folder, in_store=True)
    return sound(summary) if fits else fatal(summary, _UNPROVEN, f"df -h {folder}; df -i {folder}; make room")


def check_lock(target: CheckTarget) -> Finding:
    """Look whether the bucket locks what the block asks to lock."""
    retention = target.block.retention
    if not retention:
        return sound("the block asks for no lock")
    cure = "give a bucket with Object Lock, and s3:GetBucketObjectLockConfiguration and s3:PutObjectRetention"
    try:
        unfit = target.writer.unfit()
    except EvacuationError as error:
        return finding_of_error(error, _UNPROVEN)
    if unfit:
        return fatal(unfit, "the evidence can be deleted: Unverified", cure)
    if retention.lock != "governance":
        summary = f"{retention.lock or 'a legal hold'} is untested; the bucket's configuration has Object Lock"
        return loss(summary, "a lock that cannot be lifted is not tried out", "evacuation drill tries governance")
    if target.seen is None or target.seen.retained_until is None:
        summary = "the store does not show a lock of the canary"
        return loss(summary, "it may not keep locks", "s3:GetObjectRetention below .evacuation-canary/")
    return sound(f"the canary is locked until {target.seen.retained_until:%Y-%m-%d %H:%M} UTC")


def check_expiry(target: CheckTarget) -> Finding:
    """Look when the credentials end, those of the promoter too, as far as they tell."""
    block = target.block
    if block.bucket is None:
        return sound("a folder needs none")
    findings = [_end_of(block.credentials, were_taken=target.seen is not None)]
    if block.promoter:
        promoters = _end_of(block.promoter)
        findings.append(replace(promoters, found=f"the promoter's {promoters.found}"))
    return next(iter(Readiness(findings).bad), sound("; ".join(each.found for each in findings)))


def _end_of(credentials: Credentials | None, *, were_taken: bool = False) -> Finding:
    session = credentials.get_boto3_session() if credentials else boto3.Session()
    keys, cure = session.get_credentials(), "aws configure list; or name them in the block"
    if keys is None:
        return fatal("no credentials are found on this host", _UNPROVEN, cure)
    try:
        token = keys.get_frozen_credentials().token  # a role has keys, and their end, once it is asked for them
    except (BotoCoreError, ClientError, RuntimeError) as error:
        return fatal(f"{keys.method}: no keys are to be had: {error}", _UNPROVEN, cure)
    until, lasting = getattr(keys, "_expiry_time", None), "give keys that last, or a role of this host"
    if until and keys.method == "env":  # botocore would renew them from the same environment
        weigh = fatal if until < datetime.now(UTC) + _NIGHT else loss
        return weigh(f"env: they end at {until:%Y-%m-%d %H:%M} UTC, and nothing renews them", _UNPROVEN, lasting)
    if until:
        return sound(f"{keys.method}: renewed by themselves, these until {until:%Y-%m-%d %H:%M} UTC")
    if token:
        return loss(f"{keys.method}: temporary keys that do not tell when they end", "they may end tonight", lasting)
    taken = "; the store took them just now" if were_taken else ""
    return sound(f"{keys.method}: keys without an end of their own{taken}")


def check_promoter(target: CheckTarget) -> Finding:
    """Try the identity that changes latest/ on a canary of its own. latest/ itself is only listed."""
    block = target.block
    if block.latest == "never":
        return sound("latest/ is never changed")
    try:
        store = block.open_latest() if block.promoter else target.writer
        if block.promoter:
            _probe(store, "promoter", b"promoter")
        next(iter(store.list("latest/")), None)
    except Denied as error:
        return finding_of_error(error, "latest/ does not follow the incident", loss)
    except EvacuationError as error:
        return finding_of_error(error, "the promotion fails: Unverified")
    summary = "the promoter's keys are taken" if block.promoter else "the writer changes it"
    return sound(f"{summary}; that latest/ may be written is not tried, as nothing there may change")


def check_signature(target: CheckTarget) -> Finding:
    """Sign a text, and verify that with the auditor's lines: those given, else those of the store's block."""
    key, matters = target.block.signing, "nobody can prove who made the evidence: it is unsigned"
    if key is None:
        cure = "make a key and name it in the store's block: docs/setup.md, 'Sign and lock'"
        return loss(target.key_problem or "the store's block has no signing key", matters, cure)
    text = b"readiness"
    own_key = signer(key.sign(text), [text])
    principal = principal_of(socket.gethostname())
    unproven, cure = "no audit may be Proven", f"give the auditor this line: {signer_line(principal, key.public_key)}"
    lines = target.signers or target.block.allowed_signers
    if not lines:
        summary = f"{key.identity}, {own_key.fingerprint}, was compared with no auditor's file"
        return loss(summary, unproven, "put the lines of that file into allowed_signers of the store's block")
    try:
        signers = [*read_signers(lines)]
        if all(each.key != own_key for each in signers):
            signers += with_rotations(target.writer, [socket.gethostname()], signers)[0] or ()
    except EvacuationError as error:
        return finding_of_error(error, unproven, loss)
    now = datetime.now(UTC)
    if not any(each.stands_for(principal) and each.key == own_key and each.may_sign(now) for each in signers):
        return loss(f"the auditor's file does not allow {own_key.fingerprint} as {principal}", unproven, cure)
    if not key.key_file:
        cure = "make a new one as a file of root's, and name it by key_file: docs/setup.md, 'Sign and lock'"
        return loss("the key lies in a block, which is for drills", "whoever reads that block signs as this host", cure)
    return sound(f"{key.identity}, {own_key.fingerprint}, verified with the auditor's file")


def check_time_stamp(target: CheckTarget) -> Finding:
    """Ask the time-stamp authority for a time stamp, and compare its clock with this host's."""
    url = target.block.timestamp_url
    if not url:
        return sound("the store's block names no authority; a record's time is this host's word")
    text, matters = b"readiness", "nobody vouches for when the record was closed: its audit is Indeterminate"
    answer = ask_authority(target.block, text)
    if isinstance(answer, str):
        cure = f"correct timestamp_url or the way there: curl --data-binary @query.tsq {url} (docs/audit.md)"
        return loss(f"no time stamp: {answer}", matters, cure)
    skew = (stamped_at(answer, text) - datetime.now(UTC)).total_seconds()
    summary = f"{url} has answered; its clock is {skew:+.0f} s from this host's"
    return sound(summary) if abs(skew) <= _SKEW_SECONDS else loss(summary, matters, "timedatectl set-ntp true")


def check_clock(target: CheckTarget) -> Finding:
    """Compare this host's clock with the store's, by when the store says that the canary was written."""
    summary = f"the kernel says: {kernel().get('state', 'not known')}"
    if target.skew is None:
        if kernel().get("synchronised"):
            return sound(summary)
        summary += "; no other clock was compared"
        return loss(summary, "times in the evidence may be wrong", "timedatectl; chronyc tracking")
    skew = target.skew.total_seconds()
    summary += f"; {skew:.0f} s from the store's at the most"
    if skew > _REFUSED_SECONDS:
        matters = "a store refuses requests of a clock that is 15 minutes off: Unverified"
        return fatal(summary, matters, "timedatectl set-ntp true")
    matters = "times in the evidence are wrong, and a fleet's orders expire early"
    return loss(summary, matters, "timedatectl set-ntp true") if skew > _SKEW_SECONDS else sound(summary)
