"""Collect the files from which environment and image were made, byte for byte, so that the run can be rebuilt."""

from tasks.acquisition.collector import Collector, Files

PATTERNS = (
    *("requirements*.txt", "requirements*.in", "requirements/*.txt", "constraints*.txt"),
    *("uv.lock", "poetry.lock", "pdm.lock", "pylock*.toml", "Pipfile", "Pipfile.lock", "conda-lock.yml"),
    *("environment*.yml", "environment*.yaml", "pyproject.toml", "setup.cfg", "setup.py", ".python-version"),
    *("Dockerfile*", "Makefile", "docker-compose*.yml", "compose*.y*ml", "dvc.lock", "dvc.yaml"),
)

COLLECTOR = Collector(
    name="lockfiles",
    answers="From what were the environment and the image made?",
    order=53,
    sources=(Files("lockfiles", PATTERNS),),
)
