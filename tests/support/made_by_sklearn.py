"""Makes a model as the real workload does: `python tests/support/made_by_sklearn.py FILE`, with its own scikit-learn.

tests/support/sklearn-1.7.1.joblib was made by 1.7.1, one of those that pickle their losses under the name _loss.
"""

import sys

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  it makes the next import possible
from sklearn.impute import SimpleImputer
from sklearn.model_selection import HalvingGridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def main() -> None:
    """Search on a made-up table, and save the best pipeline."""
    dice = np.random.default_rng(0)
    table = pd.DataFrame({"age": dice.normal(40, 9, 80), "city": dice.choice(["kyoto", "osaka"], 80)})
    numbers = Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())])
    words = Pipeline([("impute", SimpleImputer(strategy="most_frequent")), ("code", OneHotEncoder())])
    columns = [("num", numbers, make_column_selector(dtype_include="number")), ("cat", words, ["city"])]
    trees = HistGradientBoostingClassifier(max_iter=1, max_leaf_nodes=2, max_bins=4, min_samples_leaf=2)
    steps = [("columns", ColumnTransformer(columns)), ("trees", trees)]
    pipeline = Pipeline(steps, memory=joblib.Memory("cache", verbose=0))
    search = HalvingGridSearchCV(pipeline, {"trees__learning_rate": [0.1, 0.2]}, cv=2, factor=2)
    joblib.dump(search.fit(table, table["age"] > 40).best_estimator_, sys.argv[1])


if __name__ == "__main__":
    main()
