"""Whose a control group is, and who can be held by it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.host.cgroup.ownership import alone, home_of, keeper_of, path_of, places_of, split_unit, within

ID = "0123456789abcdef" * 4
UID = "1b3f2c44-9d2e-4a51-8f0e-0a1b2c3d4e5f"
BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice"
OWN = "/system.slice/prefect-worker.service"
USER = "/user.slice/user-1000.slice/user@1000.service"
FORBIDDEN = [
    ("/evacuation-IR-20260101T000000Z", "incident", "IR-20260101T000000Z"),
    ("/system.slice/slurmstepd.scope/job_123/step_0/user/task_0", "Slurm job", "123"),
    ("/system.slice/node7_slurmstepd.scope/job_9/step_batch/user/task_special", "Slurm job", "9"),
    ("/system.slice/slurmstepd.scope/system", "Slurm job", ""),
    ("/slurm/uid_1001/job_42/step_extern", "Slurm job", "42"),
    ("/slurm_node7/uid_1001/job_42", "Slurm job", "42"),
    (f"/system.slice/slurmstepd.scope/job_7/step_0/user/task_0/libpod-{ID}.scope", "Slurm job", "7"),
    (f"{BURSTABLE}/cri-containerd-{ID}.scope", "Kubernetes pod", UID),
    (f"/kubepods/besteffort/pod{UID}/{ID}", "Kubernetes pod", UID),
    (f"/kubepods/pod{UID}/{ID}", "Kubernetes pod", UID),
    (f"/kubepods.slice/kubepods-pod{'0a' * 16}.slice/crio-{ID}.scope", "Kubernetes pod", "0a" * 16),
    (f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID.replace('-', '_')}.slice", "Kubernetes pod", UID),
    (f"/docker/{ID}/kubelet/kubepods/burstable/pod{UID}/{ID}", "Kubernetes pod", UID),
    ("/kubepods.slice/kubepods-burstable.slice", "Kubernetes pod", ""),
    ("/system.slice/apptainer-4711.scope", "Apptainer instance", "4711"),
    (f"{USER}/user.slice/apptainer-4711.scope", "Apptainer instance", "4711"),
    ("/singularity/4711", "Apptainer instance", "4711"),
    (f"/system.slice/docker-{ID}.scope", "container", ID),
    (f"/docker/{ID}", "container", ID),
    (f"{USER}/user.slice/docker-{ID}.scope/init", "container", ID),
    ("/docker/buildkit/x7", "container", "buildkit"),
    (f"/machine.slice/libpod-{ID}.scope/container", "container", ID),
    (f"/libpod_parent/libpod-{ID}", "container", ID),
    (f"/system.slice/nerdctl-{ID}.scope", "container", ID),
    ("/default/by-hand", "container", "by-hand"),
    ("/lxc.payload.web/system.slice/x.service", "container", "web"),
    ("/machine.slice/systemd-nspawn@web.service/payload", "container", "web.service"),
    ("/../other", "group outside of our namespace", ""),
]
SHARED = [
    "/init.scope",
    "/system.slice/cron.service",
    "/system.slice/crond.service",
    "/system.slice/ssh.service",
    "/system.slice/system-sshd.slice/sshd@3-10.0.0.1:22.service",
    "/user.slice/user-1000.slice/session-3.scope",
    "/user.slice/user-1000.slice/session-c2.scope",
    f"{USER}/init.scope",
    USER,
    f"{USER}/app.slice",
]
SERVICES = [
    "/system.slice/portfolio-api.service",
    "/system.slice/portfolio-api.service/worker",
    "/system.slice/outer.service/inner.service",
    "/system.slice/portfolio-api.service/training.scope",
    "/system.slice/cron.service.evil.service",
    f"{USER}/app.slice/mine.service",
]
FREE = [
    "/system.slice/run-r1.scope",
    "/system.slice/run-r1.scope/worker",
    f"/machine.slice/libpod-conmon-{ID}.scope",
    "/mine",
    "/slurmish/job_7",
    "/kubepodsofmine",
]
ALL = [*(path for path, _, _ in FORBIDDEN), *SHARED, *SERVICES, *FREE, "/", ""]


@pytest.mark.parametrize(("path", "kind", "name"), FORBIDDEN, ids=[path for path, _, _ in FORBIDDEN])
def test_nobody_is_taken_from_an_orchestrator(path: str, kind: str, name: str) -> None:
    assert f"{kind} {name}".strip() in keeper_of(path)
    assert not alone({7}, {7: path, 10: OWN}, OWN)


@pytest.mark.parametrize("path", [*SHARED, *SERVICES, *FREE, "/", ""])
def test_others_may_be_taken(path: str) -> None:
    assert not keeper_of(path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/system.slice/slurmstepd.scope/job_123/step_0", "scontrol requeuehold 123"),
        (f"{BURSTABLE}/cri-containerd-{ID}.scope", f"grep {UID}; kubectl delete pod"),
        ("/apptainer/4711", "apptainer instance stop"),
    ],
)
def test_a_person_is_told_how_an_orchestrators_is_drained(path: str, words: str) -> None:
    assert words in keeper_of(path)


def test_a_name_that_a_workload_chose_runs_nothing_in_a_persons_shell() -> None:
    assert "\x1b" not in keeper_of("/docker/\x1b[2J")


@given(st.text())
def test_any_path_is_answered(path: str) -> None:
    assert "\n" not in keeper_of(f"/{path}")
    assert path_of(path) in {"", *(line.removeprefix("0::") for line in path.splitlines())}


def test_the_path_of_version_2_is_told_from_those_of_version_1() -> None:
    assert path_of("9:name=systemd:/a\n4:memory:/b\n0::/c/d\n") == "/c/d"
    assert path_of("4:memory:/b\n") == path_of("") == ""


@pytest.mark.parametrize(
    ("path", "top", "expected"),
    [
        ("/a", "/a", True),
        ("/a/b", "/a", True),
        ("/ab", "/a", False),
        ("/a", "/", True),
        ("", "/", False),
        ("/a", "", False),
    ],
)
def test_below_is_by_whole_names(path: str, top: str, expected: bool) -> None:  # noqa: FBT001  a table
    assert within(path, top) is expected


def test_a_group_of_members_alone_is_frozen_where_it_is() -> None:
    scope = "/system.slice/run-r1.scope"
    paths = {7: scope, 8: f"{scope}/worker", 9: "/system.slice/x.service", 10: OWN}
    assert alone({7, 8}, paths, OWN) == {scope, f"{scope}/worker"}


@pytest.mark.parametrize("path", SERVICES)
def test_a_service_is_never_frozen_behind_the_back_of_systemd(path: str) -> None:
    assert not alone({7}, {7: path, 10: OWN}, OWN)


@pytest.mark.parametrize("path", FREE)
def test_each_of_these_is_frozen_where_it_is(path: str) -> None:
    assert alone({7}, {7: path, 10: OWN}, OWN) == {path}


def test_one_stranger_anywhere_below_keeps_a_group_from_being_frozen() -> None:
    assert not alone({7}, {7: "/job", 9: "/job/deep/er"}, OWN)


def test_one_stranger_anywhere_in_a_scope_keeps_all_its_groups_from_being_frozen() -> None:
    scope = "/system.slice/run-r1.scope"
    assert not alone({7}, {7: f"{scope}/worker", 9: f"{scope}/main"}, OWN)


@pytest.mark.parametrize("path", ["/", "", *SHARED, OWN, "/system.slice", f"{OWN}/training"])
def test_what_is_everybodys_or_ours_is_never_frozen_with_members_alone(path: str) -> None:
    assert not alone({7}, {7: path, 10: OWN}, OWN)


def test_what_holds_us_is_not_frozen() -> None:
    assert not alone({7}, {7: "/mine"}, "/mine/below")


def test_a_group_of_an_incident_is_made_at_the_top_or_by_the_users_manager_or_below_ours() -> None:
    assert places_of("x", OWN, 1000) == ("/x", f"{USER}/x", f"{OWN}/x")
    assert places_of("x", "/", 7) == ("/x", "/user.slice/user-7.slice/user@7.service/x", "/x")


@pytest.mark.parametrize(
    ("path", "unit", "below"),
    [
        (f"{USER}/evacuation-x", "user@1000.service", "/evacuation-x"),
        (f"{USER}/app.slice/a.service/evacuation-x", "user@1000.service", "/app.slice/a.service/evacuation-x"),
        ("/system.slice/worker.service/evacuation-x", "worker.service", "/evacuation-x"),
        ("/user.slice/user-1000.slice/session-3.scope/evacuation-x", "session-3.scope", "/evacuation-x"),
        ("/evacuation-x", "", ""),
        ("/batch/evacuation-x", "", ""),
        ("/system.slice/evacuation-x.service", "", ""),
        ("", "", ""),
    ],
)
def test_the_unit_that_systemd_has_delegated_is_the_first_on_the_way_down(path: str, unit: str, below: str) -> None:
    assert split_unit(path) == (unit, below)


PATHS = st.sampled_from([*ALL, OWN, "/system.slice", "/mine/below", "/mine/below/deep"])


@given(st.dictionaries(st.integers(1, 40), PATHS), st.sets(st.integers(1, 40)), PATHS)
def test_nobody_who_is_no_member_is_held(groups: dict[int, str], members: set[int], own: str) -> None:
    """Nor are we."""
    found = alone(members, groups, own)
    assert {pid for pid, path in groups.items() if any(within(path, top) for top in found)} <= members
    assert not any(within(own, top) for top in found)


@pytest.mark.parametrize(
    ("cgroup", "home"),
    [
        ("0::/a.slice/b:c.scope\n", "/a.slice/b:c.scope"),
        ("8:pids:/x\n1:name=systemd:/a.slice/b.service\n0::/\n", "/a.slice/b.service"),
        ("8:pids:/x\n1:name=systemd:/\n0::/\n", ""),
        ("", ""),
    ],
)
def test_where_a_process_was_born_is_told_by_version_2_or_by_systemd_and_not_by_a_limit(cgroup: str, home: str) -> None:
    assert home_of(cgroup) == home
