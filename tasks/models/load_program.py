"""Load the model on stdin and report on it as JSON. Source text for the workload's own interpreter, 3.8 or later.

Run by inspect.py behind the walls of tasks/system/sandbox.py; imports nothing of ours. Its argument is a
folder to import the workload's own classes from, or nothing.
"""

import json
import os
import sys
import warnings

answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
if sys.argv[1:]:
    sys.path.insert(0, sys.argv[1])

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        os.environ["JOBLIB_MULTIPROCESSING"] = "0"
        import joblib

        with open(0, "rb") as file:
            file.seek(0)
            model = joblib.load(file)
        names = getattr(model, "feature_names_in_", None)
        classes = getattr(model, "classes_", None)
        found = {
            "estimator": "{0.__module__}.{0.__qualname__}".format(type(model)),
            "features": getattr(model, "n_features_in_", None),
            "feature_names": [str(name) for name in names] if names is not None else [],
            "classes": [str(each) for each in classes] if classes is not None else [],
        }
        if "sklearn" in sys.modules:
            found["sklearn"] = sys.modules["sklearn"].__version__
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the answer
        found = {"error": f"{type(error).__name__}: {error}"}
found["warnings"] = sorted({str(each.message) for each in caught})
json.dump(found, answer, default=str)
answer.flush()
os._exit(0)
