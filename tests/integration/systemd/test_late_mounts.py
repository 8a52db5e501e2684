"""A model that was served from another place than where it lies: a mount over its folder, or one of its unit's."""

from pathlib import Path

import pytest

from tests.support.booted_host import BootedHost
from tests.support.served_workload import ServedWorkload

pytestmark = pytest.mark.whole


@pytest.mark.sample(1)
@pytest.mark.parametrize("mounted", ["before", "after", "own"])
def test_a_mount_that_came_after_the_api_or_that_it_alone_has_leaves_unsure_what_it_served(
    host: BootedHost, tmp_path: Path, mounted: str
) -> None:
    """An older folder was mounted over models/ after the start: Recovered, with the older model."""
    workload = ServedWorkload(host, tmp_path, f"mounted-{mounted}", units=[f"mounted-{mounted}-api.service"])
    ready, models = f"{workload.root}.ready", f"{workload.root}/models"
    host.run(["cp", "-a", models, ready], check=True)
    mount = ["mount", "--bind", ready, models]
    if mounted == "before":
        host.run(mount, check=True)
    workload.install_api(*([f"BindPaths={ready}:{models}"] if mounted == "own" else []))
    if mounted == "after":
        host.run(mount, check=True)
    done = workload.evacuate("--recover")
    recovery = workload.record()["recovery"]
    if mounted == "before":
        assert done.stdout.startswith("Verified: "), done.stdout + done.stderr
        assert recovery["unproven"] == []
    else:
        # what the API alone saw is lost with it, and that outranks the doubt on the recovery
        ends = "PartlyRecovered" if mounted == "after" else "sees another place there than we do"
        assert ends in done.stdout, done.stdout + done.stderr
        words = "was mounted at" if mounted == "after" else "mount of its own at"
        assert any(words in each for each in recovery["unproven"]), recovery
    host.run(["systemctl", "disable", "--quiet", "--now", workload.api], check=True)
