"""Find the living containers that a block names, without a run: for the doctor, the status, a deployment."""

from contextlib import closing

from blocks.workload_fields import WorkloadFields
from tasks.host.container.membership import Container, find_living


def find_named(workload: WorkloadFields) -> list[Container]:
    """Return the workload's living containers, paused ones too; none if it names none. Raises EngineError."""
    if not workload.containers:
        return []
    from tasks.host.container.docker_engine import DockerEngine  # not before it is asked: each import counts

    with closing(DockerEngine(workload.docker_host)) as engine:
        return find_living(engine, workload.containers)
