"""Somebody who is told: a webhook and a mail server on loopback that refuse, fail or keep waiting as they are bid."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from email.header import decode_header, make_header
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from typing import TypeVar

SECRET = "s3cr3t"


class Webhook(ThreadingHTTPServer):
    """Takes what Slack takes. `answers` are given before 200; while `open` is not set nobody is answered."""

    def __init__(self) -> None:
        """On a free port of loopback."""
        super().__init__(("127.0.0.1", 0), _Answer)
        self.texts, self.answers, self.asked = list[str](), list[int](), 0
        self.open = Event()
        self.open.set()

    @property
    def url(self) -> str:
        """Its path is the secret."""
        return f"http://127.0.0.1:{self.server_port}/services/{SECRET}"

    def heard(self, words: str) -> list[str]:
        """Messages that were taken and have these words."""
        return [text for text in self.texts if words in text]


class _Answer(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        """As an incoming webhook answers."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        self.server.open.wait(60)
        code = self.server.answers.pop(0) if self.server.answers else 200
        if code == 200:
            assert self.path.endswith(SECRET)
            self.server.texts.append(json.loads(body)["text"])
        self.send_response(code)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """In silence."""


class MailServer(ThreadingTCPServer):
    """Takes mail. `refusals` is how often it asks to be tried later first."""

    daemon_threads = True

    def __init__(self) -> None:
        """On a free port of loopback."""
        super().__init__(("127.0.0.1", 0), _Session)
        self.subjects, self.refusals = list[str](), 0

    @property
    def url(self) -> str:
        """As Apprise reads it."""
        about = "from=evacuation@example.com&to=ops@example.com&mode=insecure"
        return f"mailto://127.0.0.1:{self.server_address[1]}?{about}"


class _Session(StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        """SMTP, as far as a client needs it (RFC 5321)."""
        self._say("220 here")
        for line in self.rfile:
            match line.decode().strip().upper().partition(" ")[0]:
                case "RCPT" if self.server.refusals:
                    self.server.refusals -= 1
                    self._say("451 try later")
                case "DATA":
                    self._say("354 go on")
                    text = "".join(iter(lambda: self.rfile.readline().decode().replace("\r\n", "\n"), ".\n"))
                    self.server.subjects.append(str(make_header(decode_header(message_from_string(text)["Subject"]))))
                    self._say("250 taken")
                case "QUIT":
                    return self._say("221 bye")
                case _:
                    self._say("250 fine")
        return None

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


Server = TypeVar("Server", Webhook, MailServer)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """It answers while the block runs."""
    with server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()
