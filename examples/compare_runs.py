"""Put the demo's two runs side by side on one page, straight from MLflow.

    gradcam demo
    python examples/compare_runs.py

The same on the command line: `gradcam report runs:/ID runs:/ID --out compare.html`.
"""

import sys
import tempfile
from pathlib import Path

from mlflow import MlflowClient

from gradcam_callbacks.publishing.mlflow_store import fetch_journal, find_run
from gradcam_callbacks.reviewing import report

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "gradcam-demo")
store = f"sqlite:///{(folder / 'mlflow.db').resolve()}"
experiment = MlflowClient(store).get_experiment_by_name("gradcam demo")
found = MlflowClient(store).search_runs([experiment.experiment_id], order_by=["attributes.start_time"])

with tempfile.TemporaryDirectory() as temporary:
    runs = [find_run(run.info.run_id, store) for run in found[-2:]]
    journals = [fetch_journal(run, Path(temporary, run.run_id)) for run in runs]
    page = report.write(journals, "compare.html", names=[run.name for run in runs])
print(f"Open {page.resolve().as_uri()}")
