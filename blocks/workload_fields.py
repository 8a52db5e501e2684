"""Define the fields of a workload, with their rules, without Prefect: `status` answers before it could be imported."""

import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from blocks.described import Described, wrong_value
from tasks.custody.incident import description
from tasks.custody.incident.alarm import MAX_AGE_SECONDS


def _container(text: str) -> str:
    kind, _, name = text.partition("=")
    if kind not in {"image", "label", "name"} or not name:
        expected = "image=NAME, label=KEY, label=KEY=VALUE or name=NAME"
        raise wrong_value(expected, repr(text), "Write it like image=mlops-sklearn-portfolio:local")
    return text


def _python_name(text: str) -> str:
    from tasks.custody.models.imports import never

    if not all(part.isidentifier() for part in text.split(".")) or never(text):
        cure = "Write it like src.features; what can run programs or reach files is always suspect"
        raise wrong_value("a package, module or class of your own", repr(text), cure)
    return text


def _model_format(suffix: str) -> str:
    from tasks.custody.models.inspection import SUFFIX, is_named_as_model

    if not SUFFIX.fullmatch(suffix) or is_named_as_model(f"model{suffix}"):
        cure = "Write it like .npz; pickles (.joblib, .pickle, .pkl) are judged: model_imports; 小文字の拡張子を指定"
        raise wrong_value("the suffix of a model's format that is not read here, in small letters", repr(suffix), cure)
    return suffix


def _form(pattern: str, example: str) -> AfterValidator:
    def check(text: str) -> str:
        if re.fullmatch(pattern, text, re.ASCII):
            return text
        raise wrong_value(example, repr(text), "例のように書いてください")

    return AfterValidator(check)


def _folder(name: str) -> str:
    from tasks.custody.evidence.keys import placed_name

    if "/" in name or placed_name(f"{name}/x".encode()) != f"{name}/x":
        expected = "a folder's name in the root, of letters, digits, - and _"
        cure = "Write it like models; containers, units and attempt-1 are taken."
        raise wrong_value(expected, repr(name), f"{cure} ルート直下のフォルダ名を指定してください")
    return name


_PORT = r"((\d{1,3}\.){3}\d{1,3}:)?[1-9]\d{0,4}:[1-9]\d{0,4}"
_MOUNT = r"(\./)?[a-zA-Z0-9][\w.-]+:(/[\w-][\w.-]*)+(:ro)?"
PublishedPort = Annotated[str, _form(_PORT, "a port as in 8000:8000 or 0.0.0.0:8000:8000")]
MountedFolder = Annotated[
    str, _form(_MOUNT, "a volume or folder of the root, as in models:/app/m or ./models:/app/m:ro")
]
ContainerName = Annotated[str, AfterValidator(_container)]
Pattern = Annotated[str, AfterValidator(description.pattern)]
Bystander = Annotated[str, AfterValidator(description.bystander)]
FolderName = Annotated[str, AfterValidator(_folder)]
PythonName = Annotated[str, AfterValidator(_python_name)]
ModelFormat = Annotated[str, AfterValidator(_model_format)]
UnitName = Annotated[str, AfterValidator(description.unit)]
AbsolutePath = Annotated[Path, AfterValidator(description.absolute)]
UrlPath = Annotated[str, Field(pattern=r"^/[^\s?#]*$", max_length=200)]
Pointer = Annotated[str, Field(pattern=r"^(/.*)?$", max_length=200)]

_THIS_HOST = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1", "::"})  # noqa: S104  only compared with


class WorkloadFields(Described):
    """What to evacuate: an API and a training job under one root folder on one host."""

    model_config = ConfigDict(hide_input_in_errors=True)

    host: str = Field(default_factory=socket.gethostname, min_length=1)
    """Host name of the machine that the workload runs on, as hostname prints it there; the evacuation refuses to run
    elsewhere. In a file or in Python, the machine on which the block is made if left out."""
    root: AbsolutePath
    """The workload's root folder. A process must work in it to be matched."""
    api_pattern: Pattern = description.API
    """Regular expression on the API's full command line."""
    api_command: list[str] = Field(
        default=["venv/bin/python", "-m", "uvicorn", "api.app:app", "--host", "127.0.0.1", "--port", "8000"],
        min_length=1,
    )
    """How the API is started again, one argument an item, in the root folder, to stay in the foreground. No shell."""
    api_environment: dict[str, str] = Field(default={})
    """Variables for the API over those that it ran with, as in MODEL_PATH. No secrets: not hidden."""
    api_image: str = Field(default="", pattern=r"^([a-zA-Z0-9][\w.:/@-]*)?$")
    """Image of a new container that a recovery makes with start_as=container, with api_environment."""
    api_ports: list[PublishedPort] = Field(default=[])
    """Its ports, HOST:CONTAINER on loopback or ADDRESS:HOST:CONTAINER; if empty that of api_url."""
    api_mounts: list[MountedFolder] = Field(default=[])
    """Its mounts, VOLUME:TARGET or ./FOLDER:TARGET of the root, read-only with :ro at the end."""
    api_url: str = Field(default="", pattern=r"^(https?://[^/\s]+)?$")
    """Where the API answers, without a path. If empty: http://127.0.0.1 and the port that api_command names (--port,
    -p, --bind, PORT=; else 8000)."""
    health_path: UrlPath = "/health"
    """Path that a recovery asks by GET; 2xx is healthy."""
    model_at: Pointer = "/model"
    """JSON pointer into that answer, as in /data/model/file: where the API names the model that it serves, by path or
    base name. Empty if it names none: then the file that it is seen to open is the proof."""
    reload_path: str = Field(default="/reload", pattern=r"^(/[^\s?#]*)?$")
    """Path that is asked by POST, with ?path=, to load a model. Empty if there is none: the API is then expected to
    serve a sound model that its command or environment names, or any of the workload's."""
    predict_path: UrlPath = "/predict"
    """Path that is asked for one prediction, by POST."""
    canary_request: dict[str, Any] | list[Any] | None = None
    """JSON body of that request; not hidden. A row made from /schema if left out."""
    prediction_at: Pointer = ""
    """JSON pointer to the prediction in its answer, as in /outputs/0/data. If empty: prediction, predictions,
    pred_proba or pred."""
    api_headers: str = Field(default="", pattern=r"^(secret/[a-z0-9-]+|/([!-~]*[/.-])?headers\.json)?$")
    """Where the headers are that the API wants, a key for example: a file of the worker's host, root's or the worker's,
    mode 0600, as in /etc/evacuation/portfolio-headers.json; or a saved Secret block, as in secret/portfolio-api. Its
    text is like {"X-API-Key": "..."}, which Prefect hides, unlike an object."""
    training_pattern: Pattern = description.TRAINING
    """Regular expression on the training job's full command line."""
    worker_pattern: Pattern = description.WORKER
    """Regular expression for worker processes that may outlive their parent."""
    user: str = Field(default="", max_length=64)
    """Only processes of this account belong to the workload; whoever they belong to if empty."""
    api_port: int | None = Field(default=None, ge=1, le=65535)
    """Only a process that listens on this port is the API, where given."""
    training_command: list[str] = Field(default=[])
    """How a training is started, one argument an item, in the root folder, as in make, train-full. The train flow runs
    it; the cordon is proven by launching it and seeing it caught."""
    training_refused: list[int] = Field(default=[75])
    """Exit codes by which training_command says that the lock refused it, as in flock -n -E 75."""
    containers: list[ContainerName] = Field(default=[])
    """Containers that belong to the workload: image=NAME, label=KEY or label=KEY=VALUE, or name=NAME."""
    units: list[UnitName] = Field(default=[])
    """systemd services of this host that belong to the workload, as in portfolio-api.service. They are frozen, kept
    down and stopped through systemd."""
    bystanders: list[Bystander] = Field(default=[])
    """What works in the root, or writes there, and is no part of the workload (a log shipper, a notebook server), with
    all that it starts: told, never signalled. A regular expression on the full command line, or exe=PROGRAM,
    cwd=FOLDER, unit=NAME.service. Not what matches a pattern of the workload itself."""
    docker_host: str = Field(default="", pattern=r"^(unix:///.+|tcp://.+|https?://.+)?$")
    """Address of the Docker engine, as in unix:///var/run/docker.sock; DOCKER_HOST or that if empty."""
    lock: AbsolutePath = Path("/tmp/ml-train.lock")  # noqa: S108  the runbook's own name for it
    """The lock file that keeps new training out while it is held."""
    grace_seconds: float = Field(default=30, gt=0, le=600)
    """How long a process may take to end by itself before it is killed."""
    watch_seconds: float = Field(default=3, ge=0, le=600)
    """How long after the stop to watch for something that brings it back."""
    stop_supervisors: bool = False
    """Whether what brings a stopped process back (a systemd unit, a shell loop) may be stopped itself."""
    pause_deployments: list[str] = Field(default=[])
    """Prefect deployments that start training, paused by the cordon: flow/deployment."""
    pause_queues: list[str] = Field(default=[])
    """Prefect work queues that start training, paused by the cordon: pool/queue."""
    pause_pools: list[str] = Field(default=[])
    """Prefect work pools that start training, paused by the cordon. Never the evacuation's."""
    recovery_seconds: float = Field(default=60, gt=0, le=3600)
    """How long the API may take to answer again after a restart."""
    on_alarm: Literal["evacuate", "ask"] = "evacuate"
    """What an evacuation does that an alarm has started: evacuate goes on to its end; ask freezes and looks, and then
    waits for a person who says stop or thaw. One that a person starts is never asked about."""
    alarm_max_age: float = Field(default=MAX_AGE_SECONDS, gt=0, le=86400)
    """Seconds after which an alarm freezes nothing any more, as when no worker came before: its run ends as Stale and
    tells people the line that evacuates."""
    ask_seconds: float = Field(default=900, gt=0, le=86400)
    """How long an alarm's evacuation waits for that person."""
    unanswered: Literal["stop", "thaw"] = "stop"
    """What is done if nobody has answered by then."""
    interpreter: str = ""
    """The workload's Python, relative to the root or absolute. If empty: the first that exists of venv/bin/python,
    .venv/bin/python and env/bin/python."""
    evidence_dir: AbsolutePath | None = None
    """Where incidents are kept on this host. If empty: evidence/ in the root; for root, where another account may write
    to the root, /var/lib/evacuation and the path of the root."""
    fallback_dir: AbsolutePath | None = None
    """An existing folder on another disk, for what the evidence folder has no room for; a file that fits in neither is
    hashed where it lies and read again when it is sent."""
    reserve_mb: int = Field(default=64, ge=0, le=65536)
    """MiB that are set aside when an incident is opened, so that log, results and manifest find room."""
    incident_suffix: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9.-]{0,62})?$")
    """Put at the end of each incident id, as in gpu1. Needed where several workloads share a store."""
    logs: list[str] = Field(default=["logs/*.log"])
    """Glob patterns of log files, relative to the root, and in a container to its working directory. Where `containers`
    names some, one that begins with a slash counts from the root of each, as in /data/logs/*.log of a volume."""
    artifacts: list[str] = Field(default=["artifacts/summary_*.json", "artifacts/cv_results_*.csv", "artifacts/*.png"])
    """Glob patterns of artifacts, which count as those of `logs` do."""
    models: list[str] = Field(default=["models/model_*.joblib"])
    """Glob patterns of models, which count as those of `logs` do: /data/models/*.onnx is a volume's in a container."""
    folders: list[FolderName] = Field(default=["models", "artifacts", "logs"])
    """Folders in the root that go whole to the snapshot and latest/, after what the patterns name."""
    folder_file_mb: int | None = Field(default=None, ge=1)
    """Largest file that no pattern names, in MiB, that goes along with them; any size if left out."""
    inspect_models: bool = False
    """Whether models that look harmless are also loaded, by the workload's interpreter and user, cut off from network
    and disk, to tell of estimator, versions and features."""
    model_imports: list[PythonName] = Field(default=[])
    """Packages, modules or classes of your own that models may import, as in src.features."""
    model_formats: list[ModelFormat] = Field(default=[])
    """Suffixes, as in .npz, of models that count as sound though their format is not read here: you trust what reads
    them. What is or holds a pickle is never sound by its suffix."""
    sensitive: Literal["scan", "withhold"] = "scan"
    """What becomes of the workload's files in which secrets are found: scan lists the places and keeps the file,
    withhold leaves it out of the evidence and says so."""
    needed: list[str] | None = None
    """Collectors without which the verdict is PARTIAL; those that say so of themselves if left out (processes, tree,
    open_files, last_writes, packages, environment, logs, artifacts, models, code, folders)."""
    may_be_missing: list[str] = Field(default=[])
    """Needed collectors for which finding no file at all is no loss. A model that the API names, or has open, is a loss
    all the same if nobody takes it."""

    @field_validator("logs", "artifacts", "models")
    @classmethod
    def _globs_below(cls, globs: list[str], info: ValidationInfo) -> list[str]:
        from tasks.custody.evidence.pattern import is_full, literal_folder

        for glob in globs:
            if not glob or ".." in Path(glob).parts or (is_full(glob) and not info.data.get("containers")):
                expected = "glob patterns relative to the root, without '..'"
                cure = "Write them like logs/*.log; where containers are named, one that begins with a slash counts"
                raise wrong_value(expected, repr(glob), f"{cure} from the root of each コンテナ内は / で始める")
            if is_full(glob) and literal_folder(glob) == "/":
                cure = "Write it like /data/**/*.onnx: all of a container would have to be read"
                raise wrong_value("a pattern that names a folder of the container first", repr(glob), cure)
        return globs

    @model_validator(mode="after")
    def _lock_is_not_evidence(self) -> Self:
        if self.lock.is_relative_to(self.evidence):
            cure = "Give the lock that the training job takes"
            raise wrong_value("a lock outside the evidence folder", repr(str(self.lock)), cure)
        return self

    def require_one_port(self) -> None:
        """Raise ValueError if api_url on this host and api_command name different ports and api_port is empty.

        The default api_command is not compared, nor that of a block with containers or units, which start the API
        themselves.
        """
        host, port = description.leads_to(self.api_url)
        usual = self.api_command == type(self).model_fields["api_command"].default
        is_compared = not (usual or self.containers or self.units)
        named = description.find_ports(self.api_command, self.api_environment) if is_compared else []
        if self.api_port is None and host in _THIS_HOST and named and named[-1] != str(port):
            cure = "Correct one of them or leave api_url out; with a proxy before the API give api_port as well."
            got = f"{port} in api_url and {named[-1]} in api_command"
            raise wrong_value("one port of the API", got, f"{cure} api_url と api_command のポートを一致させてください")

    @property
    def patterns(self) -> tuple[str, ...]:
        """All regular expressions on command lines. What they spell is no secret."""
        return (self.api_pattern, self.training_pattern, self.worker_pattern, *self.bystanders)

    @property
    def api_address(self) -> str:
        """Where the API answers, without a path."""
        return self.api_url or description.address(self.api_command, self.api_environment)

    @property
    def names_port(self) -> bool:
        """Whether the block's author chose the API's port: it is not the default."""
        usual = self.api_command == type(self).model_fields["api_command"].default
        return bool(self.api_port or self.api_url) or not usual

    @property
    def evidence(self) -> Path:
        """The folder with this workload's incidents."""
        return self.evidence_dir or description.default_evidence(self.root)
