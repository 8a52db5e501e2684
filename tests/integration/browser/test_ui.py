"""A person in front of Prefect's UI: triggers the evacuation by its form, sees the verdict, reads what lies beside it.

With SCREENSHOTS=FOLDER the pages are kept as pictures, as `make pictures` does.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from logging import WARNING
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Response, expect
from playwright.sync_api import TimeoutError as NotShown

from tasks.drill.deployment import NAME, POOL, deploy, save_blocks
from tasks.drill.show_retention import lock_bucket
from tasks.drill.store_and_worker import SeaweedFS, Worker
from tasks.host.host import LinuxHost
from tasks.incident.layout import CORDON, FROZEN
from tasks.prefect_side.own_server import PrefectServer
from tasks.system.free_ports import ask
from tests.support.workloads import SmallWorkload, wait_until

RUN_MS = 120_000
MADE = "portfolio"
WIDTH, PHONE, HEIGHT, GAP = 1280, 390, 1050, 16
LEAVES = {
    "manifest": "SHA256SUMS sha256",
    "receipts": "保全先の確認",
    "timeline": "残存なしを確認",
    "postmortem": "恒久対策",
}
"""What the verdict leads to, in the order of reading, and words that are found there."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A store that locks what it is given."""
    with SeaweedFS(tmp_path_factory.mktemp("store")) as running:
        lock_bucket(running)
        yield running


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallWorkload]:
    """What is evacuated."""
    with SmallWorkload(tmp_path_factory.mktemp("sample") / "workload") as small:
        yield small


@pytest.fixture(scope="module")
def server(
    store: SeaweedFS, workload: SmallWorkload, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrefectServer]:
    """A server with a worker and a small workload at work, deployed as the operator's page says."""
    folder = tmp_path_factory.mktemp("ui")
    with PrefectServer(folder / "prefect") as running:
        save_blocks(running, store, workload.block())
        deploy(running)
        workload.start_all()
        with Worker(folder / "worker", running, POOL):
            yield running
            LinuxHost().release(workload.block().evidence / CORDON)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallWorkload]:
    """Another workload, which no file and no program describes."""
    with SmallWorkload(tmp_path / "workload") as another:
        yield another
        LinuxHost().release(another.block().evidence / CORDON)


@pytest.fixture
def page(server: PrefectServer, browser: Browser) -> Iterator[Page]:
    """A window of its own."""
    opened = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, base_url=server.ui)
    opened.set_default_timeout(60_000)
    expect.set_options(timeout=30_000)
    yield opened
    opened.close()


@pytest.fixture
def keep(page: Page) -> Callable[[str], None]:
    """Look at the page on a phone, where nothing may be cut off, and on a desk; keep pictures, where asked for."""

    def kept(name: str) -> None:
        for width, kind in ((PHONE, "-phone"), (WIDTH, "")):
            page.set_viewport_size({"width": width, "height": HEIGHT})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} at {width} pixels"
            if folder := os.environ.get("SCREENSHOTS"):
                page.screenshot(path=Path(folder) / f"{name}{kind}.png", animations="disabled")

    return kept


def load(page: Page, address: str, part: Locator) -> Locator:
    """Load a page until it shows this part: the UI asks for some of them once, also of a server that is too busy."""

    def shown() -> bool:
        page.goto(address)
        try:
            part.wait_for(timeout=15_000)
        except NotShown:
            return False
        return True

    wait_until(shown, what=f"{part} of {address}")
    return part


def form(page: Page, name: str = f"evacuate-{NAME}") -> None:
    """From the list of deployments to the form of one."""
    load(page, "/deployments", page.get_by_placeholder("Search deployments")).fill(name)  # they take more than a page
    link = page.get_by_role("link", name=name, exact=True)
    address = str(link.get_attribute("href"))  # not clicked: the search writes its address late, and leads back
    load(page, address, page.get_by_role("button", name="Run", exact=True)).click()
    page.get_by_text("Custom run").click()


def field(page: Page, name: str) -> Locator:
    """The part of the form that is about a parameter."""
    return page.locator(".schema-form-property", has_text=name).first


def send(page: Page, button: str, address: str) -> Response:
    """Send a form, again where the server was too busy to take it; return its answer from an address of this end."""
    answers: list[Response] = []

    def taken() -> bool:
        with page.expect_response(
            lambda answer: answer.url.endswith(address) and answer.request.method == "POST"
        ) as made:
            page.get_by_role("button", name=button).click()
        answers.append(made.value)
        return made.value.status != HTTPStatus.SERVICE_UNAVAILABLE

    wait_until(taken, what="a server that takes the form")
    return answers[-1]


def start(page: Page) -> None:
    """Send the form of a run, and go to the run that it has made."""
    page.goto(f"/runs/flow-run/{send(page, 'Submit', '/create_flow_run').json()['id']}")


def fill(page: Page, **values: str) -> None:
    """Write into the fields of these labels, and into no other."""
    for name, value in values.items():
        label = re.compile(rf"^{name.replace('_', ' ')}( \(Optional\))?$", re.IGNORECASE)
        part = page.locator(".schema-form-property").filter(has=page.get_by_text(label)).first
        part.locator("textarea").first.fill(value)


def make(page: Page, kind: str, values: Mapping[str, str], picture: Callable[[], None] = lambda: None) -> None:
    """Make a block by its form alone, of which a picture may be taken before it has the values of this machine."""
    load(page, f"/blocks/catalog/{kind}/create", page.get_by_role("textbox").first).fill(MADE)
    if kind == "evidence-store":
        field(page, "Whose credentials to use").locator(".p-select-button__control").press("ArrowDown")
        page.locator(".p-select-option", has_text=MADE).click()
    picture()
    fill(page, **values)
    send(page, "Create", "/block_documents/")
    expect(page.get_by_text("Block created successfully").first).to_be_visible()


def keep_form(page: Page, name: str, last: str, **values: str) -> None:
    """Keep a picture of a block's form down to a field, with these values; without logos, which lie elsewhere."""
    if not (folder := os.environ.get("SCREENSHOTS")):
        return
    fill(page, **values)
    page.set_viewport_size({"width": WIDTH, "height": 2 * HEIGHT})
    page.add_style_tag(content=".logo-image { visibility: hidden }")
    page.evaluate("document.activeElement.blur()")
    top, end = page.locator("form").bounding_box(), field(page, last).bounding_box()
    assert top
    assert end
    clip: Any = {"x": top["x"] - GAP, "y": top["y"] - GAP, "width": top["width"] + 2 * GAP}
    clip["height"] = end["y"] + end["height"] + GAP - clip["y"]
    page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled", clip=clip)


def leaf(page: Page, verdict: str, name: str) -> None:
    """From the verdict to another page that it leads to."""
    link = load(page, verdict, page.get_by_role("link", name=re.compile(f"^{name}-ir-")).last)
    page.goto(str(link.get_attribute("href")))


def test_a_person_evacuates_by_the_form_and_reads_what_came_of_it(
    page: Page, store: SeaweedFS, keep: Callable[[str], None]
) -> None:
    form(page)
    expect(page.locator(".schema-form-property").first).to_contain_text("dry_run")
    expect(page.locator(".schema-form-property", has_text=re.compile("^(workload|store)"))).to_have_count(0)
    field(page, "reason").locator("textarea").fill("disk alarm on the host")
    expect(field(page, "reason")).to_be_in_viewport()
    keep("form")
    start(page)
    expect(page.get_by_text("Verified", exact=True).first).to_be_visible(timeout=RUN_MS)
    page.get_by_text("Artifacts", exact=True).last.click()
    first = page.get_by_text(re.compile("^(verdict|manifest|offload|verify)-ir-")).first
    expect(first).to_have_text(re.compile("^verdict-"))
    expect(first).to_be_in_viewport()
    first.click()
    expect(page.get_by_text("検証済み").first).to_be_in_viewport()
    expect(page.get_by_text("次の操作").first).to_be_visible()
    keep("artifact")
    verdict = page.url
    for name, words in LEAVES.items():
        leaf(page, verdict, name)
        expect(page.get_by_text(words).first).to_be_visible()
        keep(name)
    leaf(page, verdict, "receipts")
    expect(page.locator(f"a[href^='{store.endpoint}/{store.bucket}/drill/incidents/']").first).to_be_visible()


@pytest.mark.soak
def test_a_person_brings_the_api_back_by_the_form(page: Page, workload: SmallWorkload) -> None:
    form(page, f"recover-{NAME}")
    start(page)
    expect(page.get_by_text("Recovered", exact=True).first).to_be_visible(timeout=RUN_MS)
    *_, drawn = sorted(workload.block().evidence.glob("IR-*/**/timeline.svg"))
    page.goto(drawn.as_uri())
    expect(page.get_by_text("run 2").first).to_be_visible()
    if folder := os.environ.get("SCREENSHOTS"):
        page.locator("svg").first.screenshot(path=Path(folder) / "two-runs.png")


@pytest.mark.soak
def test_a_person_makes_the_blocks_by_their_forms_and_evacuates_with_them(
    page: Page, server: PrefectServer, store: SeaweedFS, small: SmallWorkload
) -> None:
    block = small.block()
    keys = {"AWS_Access_Key_ID": store.access_key, "AWS_Access_Key_Secret": store.secret_key}
    place = {"bucket": f"s3://{store.bucket}/made", "endpoint": store.endpoint, "region": "us-east-1"}
    patterns = {name: getattr(block, name) for name in ("api_pattern", "training_pattern")}
    about = {"host": block.host, "root": str(block.root), "lock": str(block.lock), **patterns}
    about["api_command"] = json.dumps(block.api_command)
    make(page, "aws-credentials", keys)
    shown = {"bucket": "s3://evidence/portfolio", "region": "ap-northeast-1"}
    make(page, "evidence-store", place, lambda: keep_form(page, "form-store", "Whose credentials", **shown))
    shown = {"host": "gpu1", "root": "/srv/mlops-sklearn-portfolio"}
    make(page, "workload", about, lambda: keep_form(page, "form-workload", "Variables for the API", **shown))
    deploy(server, MADE)
    small.start_all()
    form(page, f"evacuate-{MADE}")
    start(page)
    expect(page.get_by_text("Verified", exact=True).first).to_be_visible(timeout=RUN_MS)
    run = page.url.rpartition("/")[2].partition("?")[0]
    wanted = {"logs": {"level": {"ge_": WARNING}, "flow_run_id": {"any_": [run]}}}
    warned = [each["message"] for each in json.loads(ask(f"{server.api}/logs/filter", wanted) or b"")]
    assert [line for line in warned if "cannot be used" in line or "promoter" in line] == []
    began = datetime.fromisoformat(json.loads(ask(f"{server.api}/flow_runs/{run}") or b"")["start_time"])
    frozen = [row for path in block.evidence.glob(f"IR-*/{FROZEN}") for row in json.loads(path.read_text())]
    assert frozen
    assert all(datetime.fromisoformat(row["frozen_at"]) < began for row in frozen), "by the worker, before the run"


@pytest.mark.whole
def test_the_form_refuses_an_incident_id_of_another_shape(page: Page) -> None:
    form(page)
    incident = field(page, "incident_id")
    incident.get_by_role("button", name="str").click()
    incident.locator("textarea").fill("IR-1")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("'IR-1' is not valid")).to_be_visible()
    expect(incident.get_by_text("IR-YYYYmmddTHHMMSSZ")).to_be_visible()
    assert page.url.partition("?")[0].endswith("/run")


@pytest.mark.soak
def test_a_run_that_is_refused_says_what_was_expected_and_what_to_do(page: Page, server: PrefectServer) -> None:
    deployment = json.loads(ask(f"{server.api}/deployments/name/evacuate/evacuate-{NAME}") or b"")["id"]
    made = ask(f"{server.api}/deployments/{deployment}/create_flow_run", {"parameters": {"workload": "nobody"}})
    page.goto(f"/runs/flow-run/{json.loads(made or b'')['id']}")
    expect(page.get_by_text("Failed", exact=True).first).to_be_visible(timeout=RUN_MS)
    page.get_by_text("Details", exact=True).last.click()
    page.get_by_text("See More").first.click()
    expect(page.get_by_text("expected the name of a saved workload block").first).to_be_visible()
    expect(page.get_by_text(re.compile(f"Use one of: .*{NAME}")).first).to_be_visible()
