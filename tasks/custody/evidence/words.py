"""Tell what a word is: known to be harmless, like a name that a person gave, or the name of a secret."""

import re
from collections.abc import Collection
from typing import Final

WORDS: Final = frozenset(
    """
    absolute accelerate account action active adam adamw add addr address adult ai airflow all alpha alpine amazonaws
    amd analysis annotate apache api app application apply arg artifact ascii asgi asr async attach attn auto avg awk
    awq aws backend backup bagging bart base baseline bash basic bat batch beat bench benchmark bert best beta bf bfloat
    big bigscience bin bind block bnb boost boosting both branch break broker bs buffer build builtin bundle by bytes bz
    cache calibration callback case cased cat catboost category cd celery cfg channel check checkout checkpoint
    checkpointer chrt churn ci cifar class classes classic classification classifier clean clearml cli client clip clm
    clone cloud cluster cmd cnn co coco code collect column com comet commit common compact compare compile compose
    compute conda conf config connect console constant container containerd continue convert copy core cosine count cp
    cpp cpu create credit crit critical cron crt csr css csv ctx cuda curl current custom customer cwd daemon dag daily
    dash dask data database dataframe dataset date db dd ddp ddpm deb deberta debian debug decode deepspeed default
    delete delta demo densenet deploy depth describe detach detection dev device diff diffusion dir directory dirname
    dist distilbert django dns do docker domain done double download dpo drop dry ds dump dvc dynamic early echo edge
    efficientnet egrep eks elastic elif else embed embedding en encode encoder endpoint engine ensemble entrypoint env
    environment epoch err errexit error esac etc etcd etl eu euo eux eval evaluate event example exclude exe exec
    executor exp experiment explain export extra factory fail fair false fast fastapi fd feature feed fetch fi field
    file filter find fine finetune first fit flag flash flask float flock flow flower folder follow for force forest
    fork forkserver format forward fp frame fraud freeze from frontend fs fsdp full function gateway gb gc gcr gemma
    generate get gguf ghcr gib git gitlab glm gloo glue go google gpt gptq gpu gradio grafana graph grep grid group grpo
    gthread gunicorn gz half halving handle handler head headless health heartbeat helm help hf high home host hour
    hourly house html htop http httpd hub huggingface id if image imagenet imdb import in index inductor infer inference
    info ingest ini init input inspect install instance int internal interval io ionice ipc ipv ipynb iris item iter jar
    java jax jl job joblib join jp jq js json jsonl julia jupyter jupyterhub jupyterlab kafka kb keep keras kernel kib
    kill kind knn kubectl lab label lan lang large lasso last latest launch layer lc legacy level lgbm lib lightgbm
    lightning limit line linear linux list little llama llm lo load loader local localhost lock log login logistic
    logloss logreg loky long loop lora loss low lr ls lsof lstm lts main make manage manager manual map mar mask master
    matrix max mb mcr md mean media medium merge message metadata method metric mib micro microservice microsoft
    middleware migrate min mini minimal mistral mistralai mixed mixtral mkdir ml mlflow mlm mlops mlp mlruns mnist mnt
    mobilenet mode model module monitor mount mpi mpiexec mpirun ms mse mtime multi multiprocessing name nbconvert nccl
    ndjson neptune ner net network never new nginx nice nlp no node nohup none note notebook notice nounset npm npx npy
    npz ns null num numactl number numpy nvcr nvidia nvme object off offload offset ok ollama on once online only onnx
    onnxruntime open openml opt optimize option optuna or org origin original out outer output over own package page
    pandas panel param parquet parser path pattern peft pem period pickle pid ping pip pipe pipefail pipeline pipenv pkl
    pl plain platform plot plugin png pod podman poetry policy pool popen port portfolio pos posix postgres postgresql
    postmaster ppo pred predict prediction prefect prefix prefork prepare preprocess preset price primary print priority
    proc process processor prod production profile program progress proj project prometheus proto provider proxy ps psql
    pt pth public publish pull push pwd py pyc pyproject pypy pytest python pytorch pyz qlora quantize query queue quick
    quiet qwen rabbitmq ram random rank ranking rate ratio raw ray rb reader ready real recommendation record redis
    reduced refresh region register registry regression release reload remote remove render replica repo report repro
    request requirement rerank reset resnet resolve resource restart restore result resume retrain retry return review
    risk rl rlhf rmsprop rnn roberta role root round route router rows rpm rscript rsync ruby rule run runner running
    runserver runuser safetensors sagemaker sales sample save scale schedule scheduler schema scikit scipy score scp
    screen script sdk sdpa search sec section secure sed seed segment segmentation select semaphore send sentiment seq
    serve server service serving session set setsid settings setup sft sgd sh shard shared shell shift show shutdown
    silent simple single size skip sklearn sleep slim slot slow slurmd slurmstepd small smi snapshot so sock socket
    softmax sort source space spark spawn spec speech split spring sql sqlite src srun srv ssh sshd sshpass stable stage
    staging standalone standard start state static stats status stdbuf stderr stdin stdout step stop store strategy
    stream streamlit strict su sub submit sudo suffix summarization summary supervisord svc svm sync synthetic sys
    system systemctl systemd table tag tail tar target task taskset tb tcp team tee temp template tensor tensorboard
    tensorflow tensorrt test text tf then thread threshold time timeout timer tini tiny titanic tmp tmux to tokenizer
    toml tool topic torch torchrun torchserve torchvision tower tox trace tracker tracking train trainer training
    transform transformer translate translation trap trial triton tritonserver true trusted ts tsv tts tune tuner tuning
    txt type ubuntu udp ui uncased unet unit unix unset until update upgrade upload url use usr utc utf util utility uv
    uvicorn val valid validate validation value var venv verbose verify version vgg video view vim vision vit vllm vocab
    volume wait waitress wandb warmup warn warning watch web webserver weight wget while whl wide wikitext window wine
    with without word work worker workflow workload workspace world write wsgi xargs xformers xgb xgboost xla xml xms
    xmx xss xx xz yaml yes yml yolov zero zip zst
    """.split()  # noqa: SIM905  a thousand strings in quotes are harder to read
)
"""Words that are no secret wherever they stand, without plurals. One that is missing costs a reader that word."""
TALK: Final = frozenset(
    """
    a abort about above absent accept accepted access accounts acquire acquired admin after again ago agree already also
    although always am amount an and another any appear are args argument around ask asked assign assigned associated
    assuming at attached attempt attempted attempts attribute authenticate authenticated authentication authorize
    authorized available average await bad based be because become been before begin being below between bootstrap bos
    but byte cached call called caller calling came can cannot certificate certificates change changed changing chars
    checked chosen clear cleared close closed cls come command complete completed computed configured confirm connected
    connection connections contain contained cookie cookies could cover created creating credential credentials
    currently day days decoded def defined deleted deleting denied deprecated detected did different digest disabled
    document does due during each earlier either empty enable enabled encountered end ended ensure enter entered environ
    eos even every exceed exceeded exception exceptions exchange exist existing expect expected expire expired failed
    failure fetched few finished fixed following found free further generated generating generation given gives got
    grant granted had has have header headers hello here him hint his hosts hours how however ignored ignoring implicit
    impossible incorrect information initial insecure inserted inside installed instead interface invalid invalidated is
    issue issued it itself just kept key keys know known kwargs lack lambda latency leaked left length less letters
    lines loaded loading logged logout longer lost lowercase made making malformed many mariadb masked match matched
    matches maximum may maybe member members memory might minute minutes mismatch missing mongo month months more most
    must mysql named near need needed neither next nor not nothing now numbers obtain obtained occurred of okay old
    older opened operation optional order other otherwise our outdated outside overflow padded padding parse parsed part
    pass passed passes passphrase password passwords per permission permitted placeholder plaintext please possible post
    presented previous prior problem processed prompt provide provided publicly pydantic raise reached read reading
    reason received recent recently refreshed refused rejected remain remaining removed renew renewed requested requests
    require required response retried retrying returned revoked rotate rotated rotation same saved saw scope second
    seconds secret secrets see seem seen self sent separate sequence sessions setting several short should shown side
    sign signature signed signing since skipped some soon special specified sqlalchemy stale starlette started still
    stored string succeed succeeded success successful successfully such supplied supply support supported switched take
    taken temporary than that the their them there these they this those though through throughout throughput thus till
    today token tokens too took total traceback trained tried trim truncated try trying tuned two unable unauthorized
    under unexpected unknown unless unlike unmasked unsupported unused up updated upon uppercase urllib usage used user
    users using variable variables verified via visit vocabulary was way we week went were what when where which who
    whole whose why will wish within would writing written wrong year years yet yield you your
    """.split()  # noqa: SIM905
)
"""Words of sentences about secrets: shown behind one in a text, though not in a command line."""
_PIECE: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_MADE_OF: Final = re.compile(r"[A-Za-z0-9._/:,+=~*%{}\[\]();^-]{1,256}")
_NATURAL: Final = re.compile(
    r"[a-z]{1,18}(?:\d{1,4}[a-z]{0,2})?|[A-Z]{1,18}\d{0,4}|[A-Z]{0,5}(?:[A-Z][a-z]{1,14})(?:[A-Z][a-z]{2,14}){0,4}\d{0,4}"
    r"|[a-z]{2,14}(?:[A-Z][a-z]{2,14}){1,4}\d{0,4}|\d{1,10}[A-Za-z]{0,3}"
)
_VOWEL_OR_SHORT: Final = re.compile(r".*[aeiouyAEIOUY].*|\d*[A-Za-z]{0,5}\d*")
SECRET_WORD: Final = (
    "password|passwd|passphrase|secret|token(?!i[sz](?:e|ing|ation))|credential|cookie|auth[_-]|[_-]auth(?!or(?!i[sz]))"  # noqa: S105  names of secrets
    "|(?:api|access|private|signing|encryption)[_ -]?key|[_.-]pwd|[_.-]pass(?:in|out)?(?![a-z]|[_-]through)"
)
SECRET_NAME: Final = re.compile(
    f"{SECRET_WORD}|パスワード|パスフレーズ|暗証番号|合言葉|秘密|シークレット|トークン(?!数|化|単位)|認証情報|資格情報|クッキー",
    re.IGNORECASE,
)
"""Also in Japanese."""
_ENDING: Final = re.compile(
    r"(?:pass|pwd|key|auth|jwt|webhook|(?:^|[^A-Za-z])(?:pin|otp|dsn|bearer|creds?)|pw|keys|Creds?)"
    r"(?:[_.-]?(?:url|uri|string|value|data|base|b|\d+)){0,3}$",
    re.IGNORECASE,
)
_PLAIN: Final = re.compile(
    r"oldpwd|compass|bypass|(?:tres|sur|encom)pass|(?:mon|don|tur|hot|turn|pub)key|(?:ho|jo|whis)c?key"
    r"|(?:public|primary|foreign|sort|partition|cache|group|join|index|row|column|object)[_.-]?keys?",
    re.IGNORECASE,
)
_COUNTED: Final = re.compile(r"tokens|(?:max|min|num|n|new|total)[A-Za-z_.-]*[_.-]tokens?", re.IGNORECASE)
"""Tokens of a language model."""
_PUBLIC: Final = re.compile(
    r"PATH|LANG|LC_[A-Z]+|TZ|TERM|SHELL|HOME|USER|LOGNAME|(?:OLD)?PWD|HOSTNAME|VIRTUAL_ENV|LD_LIBRARY_PATH|[A-Z_]*MODEL_(?:PATH|FILE|DIR)"
    r"|SCIKIT_LEARN_DATA|(?:LOCAL_)?RANK|WORLD_SIZE|MASTER_(?:ADDR|PORT)|TOKENIZERS_PARALLELISM|PYTHON[A-Z]*"
)

_FIELD_OF_COMMITS: Final = (
    r"(?:commit|revision|git[_.-]?(?:sha1?|hash|rev|head|version|describe))(?:[_.-]?(?:sha1?|hash|id|short))?"
)
_OF_COMMITS: Final = re.compile(rf"{_FIELD_OF_COMMITS}$", re.IGNORECASE)
_HASH: Final = r"(?:v?[\d.]{1,20}-\d{1,6}-g)?[0-9a-f]{7,64}(?:-dirty)?"
_COMMIT: Final = re.compile(_HASH)
COMMIT_IN_TEXT: Final = re.compile(
    rf"""(?i:{_FIELD_OF_COMMITS})(?:\\?["']?[ \t]*+[:=][ \t]*+\\?["']?|[ ])(?P<commit>{_HASH})(?![\w+=~-])"""
)

_OF_LIBRARIES: Final = re.compile(r"(?:CUDA|NVIDIA|OMP|MKL|OPENBLAS|NUMEXPR|NCCL|LOKY|JOBLIB)_[A-Z0-9_]+")


def is_known(word: str, public: Collection[str] = ()) -> bool:
    """Return whether it is one of the harmless words or their plural, or of `public`."""
    lower = word.lower()
    return not WORDS.isdisjoint({lower, lower.removesuffix("s")}) or lower in public


def is_harmless(word: str, public: Collection[str] = ()) -> bool:
    """Return whether it is made of known words, of numbers of a few digits or dates, and of two letters at most."""
    pieces = _PIECE.findall(word) if _MADE_OF.fullmatch(word) else []
    rest = [piece for piece in pieces if not is_known(piece, public)]
    letters = [piece for piece in rest if piece.isalpha()]
    few = len(letters) <= 2 and len(rest) - len(letters) <= 6  # noqa: PLR2004
    return bool(pieces) and few and all(re.fullmatch(r"[A-Za-z]|\d{1,5}|20\d{6}", piece) for piece in rest)


def all_natural(text: str) -> bool:
    """Return whether each part looks like a name that a person gave: epoch12, MaxDepth, llama2, 7b.

    A key drawn at random does not: its letters change case, digits stand between them, or it has no vowel.
    """
    parts = [part for part in re.split(r"[-_./+:()]", text) if part]
    return all(_NATURAL.fullmatch(part) and _VOWEL_OR_SHORT.fullmatch(part) for part in parts)


def secret_name(name: str, *, alone: bool = False) -> bool:
    """Return whether a name denotes a secret: by words anywhere in it, or by its last word.

    `alone` is for options and parameters, where a bare `key` or `pwd` denotes a secret; elsewhere it does not.
    """
    ends = _ENDING.search(name) and not _PLAIN.search(name) and (alone or name.lower() not in {"key", "keys", "pwd"})
    return bool(ends) or surely_secret(name)


def surely_secret(name: str) -> bool:
    """Return whether a word in the name denotes a secret whatever its value."""
    return bool(SECRET_NAME.search(name)) and not _COUNTED.fullmatch(name)


def is_commit(name: str, value: str) -> bool:
    """Return whether a field of this name has this value as a commit of git."""
    return bool(_COMMIT.fullmatch(value) and _OF_COMMITS.search(name)) and not secret_name(name)


def is_public_variable(name: str) -> bool:
    """Return whether the value of an environment variable is shown."""
    return bool(_PUBLIC.fullmatch(name)) and (name.endswith("PWD") or not secret_name(name))


def is_library_variable(name: str) -> bool:
    """Return whether it sets up a library of numbers: such a value is shown as a command line would show it."""
    return bool(_OF_LIBRARIES.fullmatch(name)) and not secret_name(name)
