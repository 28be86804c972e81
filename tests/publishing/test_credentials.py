"""Names and passwords in a tracking URI are for the server alone."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from support.mlflow_runs import Server
from support.models import pictures
from support.trainings import At, fit

from gradcam_callbacks import GradCAMCallback
from gradcam_callbacks.cli import main
from gradcam_callbacks.publishing.credentials import remove_credentials, without_credentials
from gradcam_callbacks.publishing.mlflow_store import find_run
from gradcam_callbacks.record.journal import Journal

SECRETS = ("ann-of-7", "s3cr", "et9")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://ann:secret@host:5000/#/a@b", "http://host:5000/#/a@b"),
        ("http://token@host", "http://host"),
        ("https://ann:se@cret@host/api?x=1", "https://host/api?x=1"),
        ("mysql+pymysql://ann:secret@db/mlflow", "mysql+pymysql://db/mlflow"),
        ("postgresql://db/x?user=ann&password=secret&y=1", "postgresql://db/x?user=&password=&y=1"),
        ("two: http://a:b@c/d, 'http://e:f@g'.", "two: http://c/d, 'http://g'."),
        ("see http://host/a and write to ann@host", "see http://host/a and write to ann@host"),
        ("sqlite:////home/ann@work/mlflow.db", "sqlite:////home/ann@work/mlflow.db"),
        ("databricks://profile", "databricks://profile"),
        ("", ""),
    ],
)
def test_an_address_loses_name_and_password_and_nothing_else(text: str, expected: str) -> None:
    """Wherever it stands in a text."""
    assert without_credentials(text) == expected


def test_an_error_loses_them_with_all_that_led_to_it() -> None:
    """A traceback says what each error of the chain says."""
    address = "http://ann:secret@host/"
    try:
        try:
            raise OSError(f"{address} hung up")
        except OSError as cause:
            raise mlflow.MlflowException(f"API request to {address}api failed") from cause
    except mlflow.MlflowException as error:
        remove_credentials(error)
        said = "".join(traceback.format_exception(error))
    assert "API request to http://host/api failed" in said
    assert "OSError: http://host/ hung up" in said
    assert address not in said.replace(f'"{address}"', "")  # a line of this file


def test_no_name_and_no_password_is_in_what_we_write_print_send_or_log(
    mortal_server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """With a server that is well, that dies under the training, and that is dead; then `gradcam upload`."""
    mlflow.set_tracking_uri(mortal_server.address.replace("://", "://ann-of-7:s3cr%40et9@"))
    experiment = mlflow.set_experiment("secret").experiment_id
    with caplog.at_level(logging.DEBUG, "gradcam_callbacks"):
        fit(GradCAMCallback(pictures(1), keep_journal=True), epochs=3)
        fit(GradCAMCallback(pictures(1), flush_timeout=1), At(1, mortal_server.kill), epochs=3)
        said = []
        with pytest.raises(mlflow.MlflowException) as caught:
            fit(GradCAMCallback(pictures(1)), epochs=3)
        said += traceback.format_exception(caught.value)
        journals = sorted(Path(".gradcam").iterdir())
        assert len(journals) == 2
        runner = CliRunner()
        said += [runner.invoke(main, ["upload", str(journal)]).output for journal in journals]
        mortal_server.start()
        for journal in journals:
            done = runner.invoke(main, ["upload", str(journal)])
            assert done.exit_code == 0, done.output
            said.append(done.output)
            said.append(runner.invoke(main, ["report", f"runs:/{journal.name}", "--out", "page.html"]).output)
            assert MlflowClient().get_run(journal.name).info.status == "FINISHED"
    captured = capfd.readouterr()
    said += [captured.out, captured.err, caplog.text]
    assert f"pictures  {mortal_server.address}/#/experiments/" in captured.out
    assert Journal(journals[0]).manifest.tracking_uri == mortal_server.address
    of_server = mortal_server.folder
    files = [*tmp_path.rglob("*"), *of_server.glob("*"), *(of_server / "artifacts" / experiment).rglob("*")]
    written = {str(path): path.read_bytes() for path in files if path.is_file()}
    assert {Path(path).name for path in written} >= {"manifest.json", "report.html", "page.html", "mlflow.db", "log"}
    for secret in SECRETS:
        assert not [path for path, content in written.items() if secret.encode() in content]
        assert secret not in "\n".join(said)


def test_a_journal_that_names_no_password_is_sent_to_the_server_that_mlflow_is_set_to(
    mlflow_server: str, client: MlflowClient
) -> None:
    """The address in the journal lacks it, and MLflow's own tracking URI of the same server has it."""
    run = client.create_run("0")
    mlflow.set_tracking_uri(mlflow_server.replace("://", "://ann-of-7:s3cr%40et9@"))
    assert find_run(run.info.run_id, mlflow_server)._uri == mlflow.get_tracking_uri()
    assert find_run(run.info.run_id, mlflow_server).address == mlflow_server
