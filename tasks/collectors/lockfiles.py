"""Collect the files from which environment and image were made, byte for byte, so that the run can be rebuilt.

What no pattern of the block names and is not known to be public is withheld.
"""

from tasks.acquisition.collector import Collector, Files
from tasks.custody.evidence.keys import LOCKFILES

PATTERNS = (
    *("requirements*.txt", "requirements*.in", "requirements/*.txt", "constraints*.txt"),
    *("uv.lock", "poetry.lock", "pdm.lock", "pylock*.toml", "Pipfile", "Pipfile.lock", "conda-lock.yml"),
    *("environment*.yml", "environment*.yaml", "pyproject.toml", "setup.cfg", "setup.py", ".python-version"),
    *("Dockerfile*", "Makefile", "docker-compose*.yml", "compose*.y*ml", "dvc.lock", "dvc.yaml"),
)

COLLECTOR = Collector(
    name=LOCKFILES,
    answers="From what were the environment and the image made?",
    order=53,
    sources=(Files(LOCKFILES, PATTERNS),),
)
