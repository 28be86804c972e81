"""Put the demo's two runs side by side on one page, straight from MLflow.

    gradcam demo
    python examples/compare_runs.py

The same on the command line: `gradcam report runs:/ID runs:/ID --out compare.html`.
"""

import sys
from pathlib import Path

from mlflow import MlflowClient

from gradcam_callbacks import write_report

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "gradcam-demo")
store = f"sqlite:///{(folder / 'mlflow.db').resolve()}"
experiment = MlflowClient(store).get_experiment_by_name("gradcam demo")
found = MlflowClient(store).search_runs([experiment.experiment_id], order_by=["attributes.start_time"])

runs = [f"runs:/{run.info.run_id}" for run in found[-2:]]
page = write_report(runs, "compare.html", tracking_uri=store)
print(f"Open {page.resolve().as_uri()}")
