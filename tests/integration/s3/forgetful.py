"""A real server that keeps only some of S3's promises: a proxy takes out of requests what is not to be heeded."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from blocks.s3.sign import sign_request
from tasks.custody.store.promises import KEPT, Promises
from tests.integration.s3.proxy import Act, Exchange, Proxy

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

CHECKSUM = "x-amz-checksum-sha256"
REGION = "us-east-1"


@dataclass
class Forgetful(Proxy):
    """What is not kept is ignored, and nothing tells of it; a digest that is not compared is told as it was said."""

    keys: "ReadOnlyCredentials | None" = None
    kept: Promises = KEPT
    said: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, target: str, headers: dict[str, str]) -> dict[str, str]:
        """Without what this store ignores, signed again if anything was taken out."""
        given = {name.lower(): value for name, value in headers.items()}
        whole = method == "PUT" and "uploadId=" not in target
        condition = self.kept.copies if "x-amz-copy-source" in given else self.kept.puts if whole else self.kept.parts
        ignored = set() if condition else {"if-none-match"}
        if whole and not self.kept.refuses and CHECKSUM in given:
            self.said[unquote(target)] = given[CHECKSUM]
            ignored |= {CHECKSUM, "x-amz-sdk-checksum-algorithm"}
        if not ignored & given.keys():
            return headers
        left = {name: value for name, value in given.items() if name not in {*ignored, "authorization"}}
        ours = {name: value for name, value in left.items() if name.startswith("x-amz-") or name == "host"}
        assert self.keys is not None
        return left | sign_request(self.keys, REGION, method, target, ours, given["x-amz-content-sha256"])

    def tell(self, method: str, target: str, headers: dict[str, str]) -> None:
        """The digest that was said, or none."""
        if method not in {"HEAD", "GET"}:
            return
        for name in [name for name in headers if name.lower().startswith("x-amz-checksum")]:
            if not self.kept.tells or (not self.kept.refuses and unquote(target) in self.said):
                del headers[name]
        if self.kept.tells and not self.kept.refuses and unquote(target) in self.said:
            headers[CHECKSUM] = self.said[unquote(target)]


def know_no_condition(status: int) -> Act:
    """An error for whatever is asked on a condition, as from a server that knows none; the rest is done."""

    def act(exchange: Exchange) -> None:
        if "if-none-match" in exchange.headers:
            exchange.refuse(status, "NotImplemented")
        else:
            exchange.pass_on()

    return act


def compare_with_the_source(exchange: Exchange) -> None:
    """Refuse each copy on a condition, to a free key as well, as a gateway does that compares it with the source."""
    if {"if-none-match", "x-amz-copy-source"} <= {name.lower() for name in exchange.headers}:
        exchange.refuse(412, "PreconditionFailed")
    else:
        exchange.pass_on()


def ask_for_an_algorithm(exchange: Exchange) -> None:
    """Refuse what is to be locked, and each part, unless a header names how it is to be compared."""
    given = {name.lower() for name in exchange.headers}
    locked = "x-amz-object-lock-mode" in given or ("partNumber=" in exchange.path and "x-amz-copy-source" not in given)
    if locked and not given & {"content-md5", "x-amz-sdk-checksum-algorithm"}:
        exchange.refuse(400, "MissingUploadObjectWithObjectLockHeaders")
    else:
        exchange.pass_on()


def take_it_unread(exchange: Exchange) -> None:
    """Say that it was taken, as a store does that compares it with no digest."""
    for _ in exchange.body():
        pass
    exchange.send_response_only(200)
    exchange.send_header("ETag", '"0"')
    exchange.send_header("Content-Length", "0")
    exchange.end_headers()


def keep_no_lock(exchange: Exchange) -> None:
    """Say that a locked version was deleted, as a store does that keeps no lock."""
    exchange.send_response_only(204)
    exchange.end_headers()
