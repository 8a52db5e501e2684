"""Write the model folder, its summary and a line of a log."""

import json
import pickle
from pathlib import Path

for folder in ("models/churn", "artifacts", "logs"):
    Path(folder).mkdir(parents=True, exist_ok=True)
Path("models/churn/model.pkl").write_bytes(pickle.dumps({"weights": {"age": 0.01, "visits": -0.2}}))
Path("models/churn/MLmodel").write_text("artifact_path: model\nmodel_path: model.pkl\n")
Path("artifacts/summary_churn.json").write_text(json.dumps({"auc": 0.83}))
with Path("logs/train.log").open("a") as log:
    print("trained models/churn", file=log)
