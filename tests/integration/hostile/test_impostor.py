"""Another account may listen where a drill's server was to listen, and say that it is healthy."""

import os
import sys
from pathlib import Path

import pytest

from tasks.prefect_side.own_server import PrefectServer
from tasks.system.free_ports import ask
from tests.support.accounts import Account
from tests.support.workloads import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can begin a program of another account")
IMPOSTOR = """
import http.server, sys
class Says(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"true")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Says).serve_forever()
"""


def test_a_server_of_another_account_on_our_port_is_not_ours(tmp_path: Path) -> None:
    server = PrefectServer(tmp_path)
    with Account(tmp_path / "its") as account:
        account.start([sys.executable, "-I", "-c", IMPOSTOR, str(server.port)], Path("/"))
        wait_until(lambda: ask(f"{server.api}/health") == b"true", what=f"its answer: {account.told()}")
        assert not server.ready()
