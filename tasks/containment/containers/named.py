"""Find the living containers that a block names, without a run: for the doctor, the status, a deployment."""

from contextlib import closing

from blocks.workload_fields import WorkloadFields
from tasks.host.container.membership import Container, workload_containers
from tasks.host.process.table import standpoint


def find_named(workload: WorkloadFields) -> list[Container]:
    """Return the workload's living containers, paused ones too; none if it names none. Raises EngineError."""
    names = workload.containers
    if not names:
        return []
    from tasks.host.container.docker_engine import DockerEngine  # not before it is asked: each import counts

    with closing(DockerEngine(workload.docker_host)) as engine:
        return workload_containers(engine.containers(names), names, standpoint().own)
