"""The layers that the page names are the layers that hold."""

import re
import tomllib

from tests.support.pages import PROJECT, Page


def test_the_layers_of_the_page_are_those_of_the_contract() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    layers = [re.sub(r"tasks\.(?!custody$)", "", layer) for layer in contract["layers"]]
    told = [text.splitlines() for _, text in Page(PROJECT / "docs/architecture.md").blocks]
    assert layers in told
