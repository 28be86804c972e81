"""An address that only a journal names is asked by nobody before a person says yes."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from support.journals import make_journal
from support.models import pictures, small_model

from gradcam_callbacks import GradCAMError, explain_checkpoints
from gradcam_callbacks.cli import main
from gradcam_callbacks.publishing import mlflow_store
from gradcam_callbacks.publishing.mlflow_store import find_run_of
from gradcam_callbacks.record.journal import Journal


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that would take a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def address_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def was_asked(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.fixture
def journal(client: MlflowClient) -> Journal:
    """Of a run on the server of the test, to which MLflow is not set."""
    run = client.create_run("0")
    made = make_journal(Path(run.info.run_id), steps=(0,), tracking_uri=client.tracking_uri)
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    return made


def upload(*arguments: object) -> tuple[int, str]:
    """The exit status of `gradcam upload`, and what it says on stderr."""
    result = CliRunner().invoke(main, ["upload", *map(str, arguments)])
    return result.exit_code, result.stderr


def test_no_server_is_asked_that_only_the_journal_names(
    listener: socket.socket, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal: exit status 1, one line that says what to do, and not one connection."""
    journal = make_journal(Path("run"), tracking_uri=f"http://ann:secret@{address_of(listener)[7:]}").directory
    for more in ((), ("--run", "1f0c2d")):
        status, said = upload(journal, *more)
        assert status == 1
        assert said.splitlines() == [
            f"Error: Only journal '{journal}' names the address '{address_of(listener)}': it could get credentials of "
            f"yours, or become a new database. If you trust it, pass --tracking-uri {address_of(listener)}."
        ]
    with pytest.raises(GradCAMError, match="If you trust it, set MLFLOW_TRACKING_URI to it"):
        find_run_of(Journal(journal))
    assert not was_asked(listener)
    monkeypatch.setattr(mlflow_store, "REQUEST_TIMEOUT", 0.5)  # the listener never answers
    status, said = upload(journal, "--tracking-uri", address_of(listener))
    assert status == 1
    assert was_asked(listener)


def test_no_store_is_made_that_only_the_journal_names(client: MlflowClient, tmp_path: Path) -> None:
    """Neither a new database nor one that is there gets MLflow's tables."""
    (tmp_path / "there.db").write_bytes(b"")
    for name in ("there.db", "new.db"):
        made = make_journal(Path(f"of-{name}"), tracking_uri=f"sqlite:///{tmp_path}/{name}")
        assert upload(made.directory)[0] == 1
    assert (tmp_path / "there.db").read_bytes() == b""
    assert not (tmp_path / "new.db").exists()


def test_no_line_of_a_journal_reaches_the_terminal_as_it_is(client: MlflowClient) -> None:
    """What steers a terminal is written out, and the message stays one line."""
    status, said = upload(make_journal(Path("run"), tracking_uri="http://a\x1b[2J\nhost").directory)
    assert status == 1
    assert len(said.splitlines()) == 1
    assert "\x1b" not in said


@pytest.mark.parametrize("way", ["typed", "set", "set with a slash and a password"])
def test_an_address_that_the_user_names_too_is_asked(journal: Journal, client: MlflowClient, way: str) -> None:
    """By the option, or by MLflow's own setting."""
    uri = client.tracking_uri
    if way != "typed":
        mlflow.set_tracking_uri(uri if way == "set" else uri.replace("://", "://ann:secret@") + "/")
    status, said = upload(journal.directory, *(("--tracking-uri", uri) if way == "typed" else ()))
    assert status == 0, said
    assert client.get_run(journal.manifest.run_id).data.metrics["gradcam_health/ok"] == 4


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1)])
def test_on_a_terminal_a_person_is_asked(journal: Journal, client: MlflowClient, answer: str, status: int) -> None:
    """Yes sends it, no is the error that is said without a terminal."""
    command = [str(Path(sys.executable).with_name("gradcam")), "upload", str(journal.directory)]
    ours, theirs = pty.openpty()
    environment = os.environ | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    started = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = ""
    while "[y/N]" not in said:
        said += os.read(ours, 1000).decode()
    os.write(ours, f"{answer}\n".encode())
    try:
        while piece := os.read(ours, 1000):
            said += piece.decode()
    except OSError:  # so ends a terminal
        pass
    os.close(ours)
    assert started.wait(60) == status
    assert f"is to be sent to '{client.tracking_uri}', which MLflow is not set to" in said
    assert ("pass --tracking-uri" in said) == (status == 1)
    assert ("gradcam.layer" in client.get_run(journal.manifest.run_id).data.tags) == (status == 0)


def test_a_sweep_asks_no_server_that_only_a_journal_names(
    listener: socket.socket, client: MlflowClient, tmp_path: Path
) -> None:
    """Where it goes on with a journal that was named, or finds one that somebody left in .gradcam."""
    small_model().save("m-01.keras")
    probes = pictures(1)
    with mlflow.start_run():
        explain_checkpoints("m-01.keras", probes, journal_dir="kept", verbose=False)
    held = (Path("kept") / "manifest.json").read_text()
    assert held.count(client.tracking_uri) == 1
    (Path("kept") / "manifest.json").write_text(held.replace(client.tracking_uri, address_of(listener)))
    with pytest.raises(GradCAMError, match=r"Only journal '.*' names the address"):
        explain_checkpoints("m-01.keras", probes, journal_dir="kept", verbose=False)
    Path(".gradcam").mkdir()
    Path("kept").rename(".gradcam/left")
    done = explain_checkpoints("m-01.keras", probes, verbose=False)
    assert done.recorded == (0,)
    assert not was_asked(listener)
