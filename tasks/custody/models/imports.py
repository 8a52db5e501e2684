"""Decide which names a model may import: those of real models, and none that does more than hold data.

An allowlist, because a blocklist is never complete. Left out on purpose: scipy.stats (its distributions' state holds
source text that is executed on load), functools.partial, and everything that opens, loads or calls. joblib.Memory is
allowed: loading one only sets attributes. Calling it, which creates a folder, stays forbidden; a pipeline given the
folder's name as text would use it in the same way when fitted again.
"""

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Final


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Suspect even if an operator allows them.
_NEVER_MODULES: Final = _set(
    "_ctypes _io _operator _osx_support _pickle _posixsubprocess _pyrepl _thread asyncio bdb builtins cProfile cffi "
    "cloudpickle code codeop commands ctypes dill ensurepip ftplib functools gc http idlelib imaplib importlib inspect "
    "io linecache marshal multiprocessing nt ntpath operator os pdb pickle pip pkgutil platform popen2 posix posixpath "
    "profile pty pydoc requests runpy shelve shutil signal site smtplib socket socketserver sqlite3 ssl subprocess sys "
    "tempfile test threading timeit trace types urllib venv webbrowser xmlrpc zipimport"
)
_NEVER_NAMES: Final = _set(
    "Popen __builtins__ __import__ _getattr _getattribute apply attrgetter breakpoint builtins check_output compile "
    "delattr eval exec execfile execv execve getattr globals import_module importlib itemgetter locals methodcaller "
    "open os popen posix runstring setattr spawn subprocess sys system vars"
)

_OF_OTHERS: Final = _set("joblib lightgbm numpy pandas scipy sklearn xgboost") | sys.stdlib_module_names

_FUNCTIONS: Final = (
    "abs absolute add arccos arcsin arctan around array asarray cbrt ceil clip cos cosh divide exp exp2 expm1 floor "
    "isfinite isinf isnan log log10 log1p log2 max maximum mean median min minimum multiply nan_to_num nanmax nanmean "
    "nanmedian nanmin nanstd negative power ravel reciprocal reshape rint round sign sin sinh sqrt square squeeze std "
    "subtract sum tan tanh transpose trunc var"
)
_SCALARS: Final = (
    "bool bool_ bytes_ complex128 complex64 datetime64 float16 float32 float64 int16 int32 int64 int8 intp longlong "
    "object_ str_ timedelta64 uint16 uint32 uint64 uint8 ulonglong void "
    "character complexfloating flexible floating generic inexact integer number signedinteger unsignedinteger"
)

LOSSES: Final = "_loss"
"""The name, of no package, under which scikit-learn before 1.9 registers its module sklearn._loss._loss."""
REGISTER_LOSSES: Final = ("sklearn._loss.", "sklearn.linear_model.", "sklearn.ensemble.")
"""Prefixes of the modules whose import registers it."""
_CLASS: Final = r"_?[A-Z]\w*"
_CYTHON: Final = r"__pyx_unpickle_\w+"
_MEASURES: Final = "corrcoef|deviance|distances|error|kernel|kernels|loss|ratio|ratios|score|similarity"
_OFFSETS: Final = r"\w*(Begin|Day|End|Hour|Micro|Milli|Minute|Month|Nano|Second|Week)"
_NEW_INDEX: Final = "_new_(Datetime|Interval|Period|Timedelta)?Index"


def _words(text: str) -> str:
    return "|".join(text.split())


# Module pattern → pattern of the names in it. Both must match as a whole.
_ALLOWED: Final[Mapping[str, str]] = {
    "builtins": _words("bool bytearray bytes complex dict float frozenset int list object range set slice str tuple"),
    "collections": _words("Counter OrderedDict defaultdict deque"),
    "copyreg": "_reconstructor",
    "_codecs": "encode",
    "datetime": _words("date datetime time timedelta timezone"),
    "decimal": "Decimal",
    r"pathlib(\._local)?": _words("PosixPath PurePosixPath"),
    "numpy": _words(f"dtype matrix ndarray {_SCALARS} {_FUNCTIONS}"),
    r"numpy\._?core\.multiarray": _words("_reconstruct scalar"),
    r"numpy\._?core\.numeric": "_frombuffer",
    r"numpy\._?core\._multiarray_umath": _words(_FUNCTIONS),
    r"numpy\.matrixlib\.defmatrix": "matrix",
    r"numpy\.dtypes": r"[A-Z]\w*DType",
    r"numpy\.ma(\.core)?": _words("MaskedArray _mareconstruct"),
    r"numpy\.random\._pickle": _words("__bit_generator_ctor __generator_ctor __randomstate_ctor"),
    r"numpy\.random\._(mt19937|pcg64|philox|sfc64)": _words("MT19937 PCG64 PCG64DXSM Philox SFC64"),
    r"numpy\.random\._?bit_generator": rf"SeedSequence|SeedlessSequence|{_CYTHON}",
    r"numpy\.random\.mtrand": "RandomState",
    r"scipy\.sparse\._?(bsr|coo|csc|csr|dia|dok|lil)": r"(bsr|coo|csc|csr|dia|dok|lil)_(array|matrix)",
    r"scipy\.interpolate\._(bsplines|interpolate)": _words("BSpline PPoly interp1d"),
    r"scipy\.special\.(_special_ufuncs|_ufuncs)": _words(
        "boxcox boxcox1p erf expit inv_boxcox inv_boxcox1p logit xlogy"
    ),
    r"scipy\._lib\.array_api_compat\.numpy\._aliases": "asarray",
    r"joblib\.numpy_pickle": "NumpyArrayWrapper",
    r"joblib\.memory": "Memory",
    r"joblib\._store_backends": "FileSystemStoreBackend",
    LOSSES: rf"Cy[A-Z]\w*|{_CYTHON}",
    r"sklearn\.compose\._column_transformer": "make_column_selector",
    "pandas": r"Categorical|DataFrame|Flags|Index|NA|Series|Time(delta|stamp)|get_dummies|[A-Z]\w*(Dtype|Index)",
    r"pandas\.core\.reshape\.(encoding|reshape)": "get_dummies",
    r"pandas\.arrays": r"[A-Z]\w*Array",
    r"pandas\.core\.(frame|series)": _words("DataFrame Series"),
    r"pandas\.core\.internals\.(blocks|managers)": _words("BlockManager SingleBlockManager new_block"),
    r"pandas\.core\.indexes\.\w+": rf"{_NEW_INDEX}|[A-Z]\w*Index|Index",
    r"pandas\.core\.dtypes\.dtypes": r"[A-Z]\w*Dtype",
    r"pandas\.core\.arrays\.\w+(\.\w+)*": r"[A-Z]\w*(Dtype|Array)|Categorical",
    r"pandas\.core\.flags": "Flags",
    r"pandas\._libs\.internals": _words("BlockPlacement _unpickle_block"),
    r"pandas\._libs\.(arrays|interval)": _CYTHON,
    r"pandas\._libs\.missing": _words("NA NAType"),
    r"pandas\._libs\.sparse": _words("BlockIndex IntIndex"),
    r"pandas\._libs\.tslibs\.offsets": _OFFSETS,
    r"pandas\._libs\.tslibs\.\w+": _words("Timedelta Timestamp _nat_unpickle _timedelta_unpickle _unpickle_timestamp"),
    r"sklearn\.(_isotonic|_loss|base|calibration|cluster|compose|covariance|cross_decomposition|decomposition|"
    r"discriminant_analysis|dummy|ensemble|feature_extraction|feature_selection|frozen|gaussian_process|impute|"
    r"isotonic|kernel_approximation|kernel_ridge|linear_model|manifold|metrics|mixture|model_selection|multiclass|"
    r"multioutput|naive_bayes|neighbors|neural_network|pipeline|preprocessing|random_projection|semi_supervised|svm|"
    r"tree)(\.\w+)*": rf"{_CLASS}|{_CYTHON}",
    r"sklearn\.utils\._(bunch|metadata_requests|random|typedefs|weight_vector)": rf"{_CLASS}|{_CYTHON}",
    r"sklearn\.cluster\._kmeans": r"_kmeans_single_\w+",
    r"sklearn\.metrics\._\w+|sklearn\.neighbors\._\w+": "newObj",
    r"sklearn\.metrics\.\w+(\.\w+)*": rf"[a-z]\w*_({_MEASURES})|_passthrough_scorer",
    r"sklearn\.feature_selection\._(mutual_info|univariate_selection)": _words(
        "chi2 f_classif f_oneway f_regression mutual_info_classif mutual_info_regression r_regression"
    ),
    r"xgboost\.(core|sklearn)": r"Booster|XGB\w+",
    r"lightgbm\.(basic|sklearn)": r"Booster|LGBM\w+",
}
_ALL_CALLED: Final = (
    *("builtins", "collections", "copyreg", "_codecs", "datetime", "decimal", r"pathlib(\._local)?"),
    *(r"numpy\._?core\.multiarray", r"numpy\._?core\.numeric", r"numpy\.random\._pickle"),
    *(r"pandas\.core\.internals\.(blocks|managers)", r"pandas\._libs\.internals", r"pandas\._libs\.(arrays|interval)"),
    *(r"pandas\._libs\.sparse", r"pandas\._libs\.tslibs\.offsets", r"pandas\._libs\.tslibs\.\w+"),
)
"""Of these modules a model may call all that it may import."""

# What a model may call, besides creating objects without __init__: functions that assemble plain data.
_CALLED: Final[Mapping[str, str]] = {
    **{module: _ALLOWED[module] for module in _ALL_CALLED},
    "numpy": "dtype",
    r"numpy\.ma(\.core)?": "_mareconstruct",
    r"numpy\.random\._?bit_generator": _CYTHON,
    r"pandas(\.core\.(arrays|dtypes)(\.\w+)+)?": r"[A-Z]\w*Dtype",
    r"pandas\.core\.indexes\.\w+": _NEW_INDEX,
    rf"sklearn\._loss\._loss|{LOSSES}": rf"Cy[A-Z]\w*|{_CYTHON}",
    r"sklearn\.linear_model\._sgd_fast": r"[A-Z]\w*",
    r"sklearn\.tree\._(criterion|splitter|tree)": r"[A-Z]\w*",
    r"sklearn\.metrics\._dist_metrics|sklearn\.neighbors\._(ball|kd)_tree": "newObj",
    r"sklearn\.(\w+\.)*\w+": _CYTHON,
}


def _compile(table: Mapping[str, str]) -> tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]:
    return tuple((re.compile(module), re.compile(name)) for module, name in table.items())


_PATTERNS: Final = _compile(_ALLOWED)
_CALLED_PATTERNS: Final = _compile(_CALLED)


def is_allowed(module: str, name: str, own: Collection[str] = ()) -> bool:
    """Return whether a model may import this name. `own` are packages, modules or full names that an operator trusts.

    Names that can run or reach anything are never allowed, even in `own`. A dotted name (an attribute of an attribute)
    is allowed only if `own` contains it in full.
    """
    whole = f"{module}.{name}"
    if (module, name) in _HARMLESS_BUILTINS:
        return True
    if never(whole):
        return False
    if whole in own:
        return True
    if not name.isidentifier():
        return False
    return _within(module, own) or _fits(_PATTERNS, module, name)


def may_call(module: str, name: str, own: Collection[str] = ()) -> bool:
    """Return whether a model may call an allowed name: reconstructors, and what an operator trusts."""
    return is_allowed(module, name, own) and (is_trusted(module, name, own) or _fits(_CALLED_PATTERNS, module, name))


def is_trusted(module: str, name: str, own: Collection[str]) -> bool:
    """Return whether an operator trusts this name."""
    return f"{module}.{name}" in own or _within(module, own)


def may_be_own(dotted: str) -> bool:
    """Return whether a name may be from an operator's own code: valid for a block, and of no package known here."""
    words = dotted.split(".")
    return words[0] not in _OF_OTHERS and all(map(str.isidentifier, words)) and not never(dotted)


def _within(module: str, own: Collection[str]) -> bool:
    return any(f"{module}.".startswith(f"{each}.") for each in own)


def _fits(table: Iterable[tuple[re.Pattern[str], re.Pattern[str]]], module: str, name: str) -> bool:
    return any(place.fullmatch(module) and what.fullmatch(name) for place, what in table)


_HARMLESS_BUILTINS: Final = frozenset(("builtins", name) for name in _ALLOWED["builtins"].split("|"))


def never(dotted: str) -> bool:
    """Return whether a dotted name is always suspect."""
    first, *rest = dotted.split(".")
    return first in _NEVER_MODULES or not _NEVER_NAMES.isdisjoint(rest)
