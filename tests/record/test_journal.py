"""What is in the journal is there as a whole, and read without pickle."""

from __future__ import annotations

import io
import logging
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.manifests import a_manifest

import gradcam_callbacks
from gradcam_callbacks.record.archive import _PIECE
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.step import Step, compressed
from gradcam_callbacks.reviewing.drift import focus

MANIFEST = a_manifest(["кот", "\udcff"])
PICTURES = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)

# What the processes of these tests begin with.
PREAMBLE = """
import os, resource, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from gradcam_callbacks.record.journal import Journal
from support.manifests import a_manifest
manifest = a_manifest(["cat"])
pictures = np.zeros((1, 4, 4, 3), np.uint8)
def say(*words): print(*words, flush=True)
def arrays(numbers, score=0.0):
    one = np.zeros((1, 1), int)
    maps = np.asarray(numbers, np.float64).reshape(1, 1, -1)
    scores, health = one + float(score), np.array([["ok"]])
    return {"maps": maps, "scores": scores, "explained": one, "predicted": one[0], "health": health}
"""


def new_journal(folder: str = "journal", *, strict: bool = False, **changes: Any) -> Journal:
    return Journal.create(folder, manifest=replace(MANIFEST, **changes), pictures=PICTURES, strict=strict)


def arrays(value: float) -> dict[str, np.ndarray]:
    return {
        "maps": np.full((2, 1, 3, 3), value, np.float32),
        "scores": np.array([[value], [-value]]),
        "explained": np.array([[0], [1]], np.int32),
        "predicted": np.array([0, 1], np.int32),
        "health": np.array([["ok"], ["empty"]]),
    }


def value(journal: Journal, step: int) -> float:
    return float(journal.read(step).arrays["scores"][0, 0])


def start(code: str) -> subprocess.Popen[str]:
    """A process that runs Python code after the preamble."""
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PREAMBLE + code], env=environment, stdin=pipe, stdout=pipe, text=True
    )


def run(code: str) -> list[str]:
    """The lines that Python code says after the preamble, in a process of its own."""
    process = start(code)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return said.splitlines()


def files(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_what_is_written_is_read_back() -> None:
    """Arrays, logs, names in any script and pictures come back as they were, from another object."""
    written = arrays(1) | {"maps": np.random.default_rng(0).random((2, 1, 3, 3), np.float32)}
    before = time.time()
    path = new_journal().append(3, written, {"loss": 0.1, "accuracy": np.float32(0.5), "count": 2})
    journal = Journal("journal")
    step = journal.read(3)
    assert step.arrays.keys() == written.keys()
    for name, array in written.items():
        np.testing.assert_array_equal(step.arrays[name], array)
        assert step.arrays[name].dtype == array.dtype
    assert step.logs == {"loss": 0.1, "accuracy": 0.5, "count": 2}
    assert before <= step.time <= time.time()
    assert journal.manifest.names == MANIFEST.names
    np.testing.assert_array_equal(journal.pictures(), PICTURES)
    assert path == journal.path(3)
    assert journal.content(3) == path.read_bytes()
    assert (journal.held, journal.trouble, journal.flush()) == (0, None, True)


def test_an_array_of_several_pieces_is_read_back() -> None:
    """Files are read piece by piece; the last one is shorter than the others, and no byte is out of place."""
    written = arrays(1) | {"maps": np.random.default_rng(0).random((2, 1, 513, 520), np.float32)}
    assert written["maps"].nbytes > 2 * _PIECE
    assert written["maps"].nbytes % _PIECE
    new_journal().append(0, written, {})
    np.testing.assert_array_equal(Journal("journal").read(0).maps, written["maps"])


def test_metrics_that_are_not_finite_survive() -> None:
    """A loss that has become NaN or infinite is in the record."""
    new_journal().append(0, arrays(0), {"nan": float("nan"), "up": float("inf"), "down": float("-inf")})
    logs = Journal("journal").read(0).logs
    assert np.isnan(logs["nan"])
    assert (logs["up"], logs["down"]) == (float("inf"), float("-inf"))


def test_the_manifest_says_with_what_it_was_made() -> None:
    """Versions of what is installed and of Python; what a journal says of another machine stays."""
    new_journal("elsewhere", versions={"keras": "mine"})
    assert Journal("elsewhere").manifest.versions == {"keras": "mine"}
    versions = new_journal().manifest.versions
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__
    assert versions["gradcam_callbacks"] == gradcam_callbacks.__version__
    assert "tensorflow" in versions  # the engine of this manifest
    jax = a_manifest(engine="jax").made_now(np.zeros((2, 4, 4, 3), np.uint8)).versions
    assert "tensorflow" not in jax


def test_steps_are_in_order_and_a_repeated_one_replaces() -> None:
    """Step 10 comes after step 9, and a step is there once, with what was written last."""
    journal = new_journal()
    for step, number in ((10, 1.0), (9, 2.0), (10, 3.0)):
        journal.append(step, arrays(number), {})
        assert value(journal, step) == number
    assert journal.steps() == [9, 10]
    assert value(journal, 10) == 3


def test_what_could_not_be_read_back_is_refused() -> None:
    """A negative step, an array of objects, and a name that the file needs itself."""
    journal = new_journal()
    with pytest.raises(ValueError, match="A step is an epoch, 0 or more, or -1 for the baseline, not -2"):
        journal.append(-2, {}, {})
    for wrong in ({"maps": np.array([None])}, {"logs": np.zeros(1)}, {"file": np.zeros(1)}):
        with pytest.raises(ValueError, match=rf"Arrays \['{next(iter(wrong))}'\] hold Python objects, or"):
            journal.append(0, wrong, {})
    with pytest.raises(FileNotFoundError):
        journal.read(0)
    assert journal.steps() == []


@pytest.mark.usefixtures("long")
def test_a_process_killed_at_any_moment_loses_no_step_that_it_reported() -> None:
    """20 times `kill -9` in a loop of appends: the journal opens, holds what was reported, and nothing half-written."""
    # Each is forked from one that has imported what it needs, for that takes longer than all else here.
    code = """
import warnings
warnings.simplefilter("ignore")  # of a fork where NumPy has threads, which are idle

def append():
    journal = Journal.create("journal", manifest=manifest, pictures=pictures)
    step = max(journal.steps(), default=-1)
    maps = np.random.default_rng(0).random(500)
    while True:
        step += 1
        journal.append(step, arrays(maps, step), {"loss": step / 3})
        assert journal.held == 0
        journal.mark_uploaded(f"maps/{step}")
        say(step)

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        say(os.getpid())
        append()
    say("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    moments = random.Random(0)
    reported, expected = set(), np.random.default_rng(0).random(500)
    process = start(code)
    for _ in range(20):
        process.stdin.write("\n")
        process.stdin.flush()
        child = int(process.stdout.readline())
        for _ in range(moments.randint(1, 4)):
            reported.add(int(process.stdout.readline()))
        time.sleep(moments.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        reported |= {int(line) for line in iter(process.stdout.readline, f"ended {-signal.SIGKILL}\n")}
        journal = Journal("journal")
        steps = journal.steps()
        assert reported <= set(steps)
        assert steps == list(range(len(steps)))
        assert len(steps) <= len(reported) + 20
        assert {f"maps/{step}" for step in reported} <= journal.uploaded()
        assert files("journal/steps") == sorted(f"{step}.npz" for step in steps)
        assert files("journal") == ["manifest.json", "steps", "uploaded"]
        last = journal.read(steps[-1])
        np.testing.assert_array_equal(last.arrays["maps"].ravel(), expected)
        assert last.logs == {"loss": steps[-1] / 3}
    process.communicate()
    assert process.returncode == 0


def test_temporary_files_of_the_dead_are_removed_and_of_the_living_not() -> None:
    """Opening a journal in the middle of another process's write disturbs nothing; after a kill it cleans up."""
    code = """
journal = Journal.create("journal", manifest=manifest, pictures=pictures)
flush = os.fsync
def slow(handle):
    say("writing")
    sys.stdin.readline()
    flush(handle)
os.fsync = slow
journal.append(0, arrays([1]), {})
os.fsync = flush
say(journal.held, journal.trouble)
os.fsync = slow
journal.append(1, arrays([1]), {})
"""
    process = start(code)
    assert process.stdout.readline() == "writing\n"
    assert Journal("journal").steps() == []
    assert len(files("journal/steps")) == 1
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "writing\n"  # renamed, and about to flush the folder
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "0 None\n"
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.communicate()
    assert len(files("journal/steps")) == 2
    Path("journal/.manifest.json.0123456789abcdef.tmp").write_text("{")
    assert Journal("journal").steps() == [0]
    assert files("journal/steps") == ["0.npz"]
    assert files("journal") == ["manifest.json", "steps"]


def test_one_process_reads_while_another_writes(caplog: pytest.LogCaptureFixture) -> None:
    """Every step that a reader finds is whole, while the writer replaces the same ten again and again."""
    code = """
journal = Journal.create("journal", manifest=manifest, pictures=pictures)
generator = np.random.default_rng(1)
say("ready")
for n in range(150):
    array = generator.random(generator.integers(1, 20_000))
    journal.append(n % 10, arrays(array, array.sum()), {})
    journal.mark_uploaded(f"{n}")
say(journal.held, journal.trouble)
"""
    process = start(code)
    assert process.stdout.readline() == "ready\n"
    journal, reads = Journal("journal"), 0
    while process.poll() is None:
        Journal("journal")  # which looks for temporary files
        for step in journal.steps():
            read = journal.read(step).arrays
            assert read["maps"].sum() == read["scores"].sum()
            reads += 1
        marks = {int(item) for item in journal.uploaded()}
        assert marks == set(range(len(marks)))
    assert process.communicate()[0] == "0 None\n"
    assert process.returncode == 0
    assert reads > 50
    assert journal.steps() == list(range(10))
    assert len(journal.uploaded()) == 150
    assert caplog.records == []


def test_threads_share_a_journal() -> None:
    """The training appends while the uploader reads and marks: each sees whole steps, nothing is lost."""
    journal, wrong = new_journal(), []

    def upload() -> None:
        while len(journal.uploaded()) < 100:
            for step in journal.steps():
                wrong.extend([step] * (value(journal, step) != step))
                journal.mark_uploaded(f"{step}")

    worker = threading.Thread(target=upload)
    worker.start()
    for step in range(100):
        journal.append(step, arrays(step), {})
    worker.join(60)
    assert not worker.is_alive()
    assert wrong == []
    assert Path("journal/uploaded").read_bytes().count(b"\n") == 100


def test_a_full_disk_loses_no_step() -> None:
    """What the disk does not take is served from memory, leaves no temporary file, and is written later."""
    said = run("""
generator = np.random.default_rng(0)
journal = Journal.create("journal", manifest=manifest, pictures=pictures)
journal.append(0, arrays(np.zeros(3)), {})
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
large = {step: generator.random(10_000) for step in (0, 1)}
for step, maps in large.items():
    journal.append(step, arrays(maps), {})
journal.append(2, arrays(np.ones(3)), {})
say(journal.held, journal.flush(), type(journal.trouble).__name__, journal.trouble.strerror)
say(journal.steps(), all((journal.read(step).arrays["maps"].ravel() == maps).all() for step, maps in large.items()))
say(sorted(os.listdir("journal/steps")), Journal("journal").read(0).arrays["maps"].ravel())
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
journal.append(3, arrays(np.ones(3)), {})
again = Journal("journal")
same = [(again.read(step).arrays["maps"].ravel() == maps).all() for step, maps in large.items()]
say(journal.held, again.steps(), all(same))
""")
    assert said == [
        "2 False OSError File too large",
        "[0, 1, 2] True",
        "['0.npz', '2.npz'] [0. 0. 0.]",
        "0 [0, 1, 2, 3] True",
    ]


def test_a_full_disk_raises_where_that_is_wanted() -> None:
    """With strict the error comes at once, the step is as it was before, and no temporary file stays."""
    said = run("""
journal = Journal.create("journal", manifest=manifest, pictures=pictures, strict=True)
journal.append(0, arrays([1.0]), {})
journal.mark_uploaded("0")
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    journal.append(0, arrays(np.random.default_rng(0).random(10_000)), {})
except OSError as error:
    say(error.strerror)
say(journal.held, journal.read(0).arrays["maps"].item(), os.listdir("journal/steps"))
try:
    journal.mark_uploaded("1" * 5000)
except OSError as error:
    say(error.strerror)
say(journal.held, *journal.uploaded())
try:
    Journal.create("other", manifest=replace(manifest, run_name="n" * 5000), pictures=pictures, strict=True)
except OSError as error:
    say(error.strerror)
""")
    assert said == ["File too large", "0 1.0 ['0.npz']", "No space left on device", "0 0", "File too large"]


def test_a_journal_without_a_place_lives_in_memory() -> None:
    """Where no folder can be made, everything is served; where the user wants an error, there is one."""
    journal = new_journal("/proc/nowhere/journal")
    assert isinstance(journal.trouble, OSError)
    assert journal.held == 1
    for step in (1, 0):
        journal.append(step, arrays(step), {"loss": 0.5})
    journal.mark_uploaded("maps/0")
    assert journal.held == 4
    assert not journal.flush()
    assert journal.steps() == [0, 1]
    assert value(journal, 1) == 1
    assert journal.read(1).logs == {"loss": 0.5}
    with np.load(io.BytesIO(journal.content(1))) as file:
        np.testing.assert_array_equal(file["maps"], arrays(1)["maps"])
    assert journal.uploaded() == {"maps/0"}
    np.testing.assert_array_equal(journal.pictures(), PICTURES)
    with pytest.raises(FileNotFoundError):
        journal.read(7)
    with pytest.raises(FileNotFoundError):
        new_journal("/proc/nowhere/journal", strict=True)


def test_what_is_in_memory_is_written_when_the_place_is_there() -> None:
    """The next append writes all that is held, in the order in which it came."""
    Path("place").write_text("in the way")
    journal = new_journal("place/journal")
    journal.append(5, arrays(5), {})
    journal.append(4, arrays(4), {})
    journal.mark_uploaded("maps/5", "maps/4")
    assert journal.held == 5
    Path("place").unlink()
    journal.append(3, arrays(3), {})
    assert journal.held == 0
    assert isinstance(journal.trouble, NotADirectoryError)
    again = Journal("place/journal")
    assert again.steps() == [3, 4, 5]
    assert [value(again, step) for step in (3, 4, 5)] == [3, 4, 5]
    assert Path("place/journal/uploaded").read_text() == '"maps/5"\n"maps/4"\n'
    np.testing.assert_array_equal(again.pictures(), PICTURES)
    times = [Path("place/journal", name).stat().st_mtime_ns for name in ("manifest.json", "steps/5.npz", "steps/4.npz")]
    assert times == sorted(times)


def test_a_folder_that_vanished_is_made_again() -> None:
    """Steps recorded after the folder was removed are in a journal that opens."""
    journal = new_journal()
    journal.append(0, arrays(0), {})
    shutil.rmtree("journal")
    assert journal.steps() == []
    journal.append(1, arrays(1), {})
    assert journal.held == 0
    again = Journal("journal")
    assert again.steps() == [1]
    assert value(again, 1) == 1
    np.testing.assert_array_equal(again.pictures(), PICTURES)


def test_a_journal_of_something_else_that_appears_is_left_alone() -> None:
    """A folder that could not be read at the start and turns out to be another run's gets no step of this one."""
    new_journal("other", layer="other").append(0, arrays(0), {})
    Path("place").write_text("in the way")
    journal = new_journal("place")
    Path("place").unlink()
    Path("other").rename("place")
    journal.append(0, arrays(1), {})
    journal.mark_uploaded("maps/0")
    assert not journal.flush()
    assert journal.held == 3
    assert value(journal, 0) == 1
    other = Journal("place")
    assert value(other, 0) == 0
    assert other.uploaded() == frozenset()


def test_one_step_that_cannot_be_written_does_not_hold_the_others() -> None:
    """A folder in the place of a step's file: that step stays in memory, later ones are written."""
    journal = new_journal()
    Path("journal/steps/0.npz").mkdir()
    journal.append(0, arrays(0), {})
    journal.append(1, arrays(1), {})
    assert journal.held == 1
    assert isinstance(journal.trouble, IsADirectoryError)
    assert journal.steps() == [0, 1]
    assert value(journal, 0) == 0
    assert value(Journal("journal"), 1) == 1


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal stays in the folder in which it was made."""
    journal = new_journal()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir("below")
    journal.append(0, arrays(0), {})
    assert files(str(tmp_path / "journal" / "steps")) == ["0.npz"]
    assert files(".") == []


def without(content: bytes, member: str) -> bytes:
    """A zip file without one of its members, the others uncompressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in set(old.namelist()) - {member}:
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer, **arrays(0) | {"arrays": np.array(["maps"]), "logs": "{}", "time": 0.0, "maps": np.array([{}], object)}
    )
    return buffer.getvalue()


DAMAGES = {
    "empty": (lambda content: b"", "it is empty"),
    "no zip": (lambda content: b"something else", "it was cut or changed after it had been written"),
    "half": (lambda content: content[: len(content) // 2], "it was cut or changed after it had been written"),
    "without its end": (lambda content: content[:-1], "it was cut or changed after it had been written"),
    "zeros inside": (lambda content: content[:60] + bytes(40) + content[100:], ""),
    "bad crc": (
        lambda content: without(content, "nothing").replace(np.float32(1).tobytes(), np.float32(2).tobytes()),
        "it was cut or changed after it had been written",
    ),
    "without maps": (lambda content: without(content, "maps.npy"), r"it lacks the arrays \['maps'\]"),
    "without logs": (lambda content: without(content, "logs.npy"), r"it lacks the arrays \['logs'\]"),
    "without names": (lambda content: without(content, "arrays.npy"), r"it lacks the arrays \['arrays'\]"),
    "pickle": (lambda content: pickled(), r"its array 'maps' holds neither numbers nor texts"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_step_is_reported_once_and_the_rest_is_used(damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """One warning names the file and what is wrong; the others are there; nothing is deleted; a rewrite heals."""
    journal = new_journal()
    for step in range(3):
        journal.append(step, arrays(step), {"loss": 0.125})
    path = journal.path(1)
    change, reason = DAMAGES[damage]
    path.write_bytes(change(path.read_bytes()))
    damaged = path.read_bytes()
    for opened in (journal, Journal("journal")):
        caplog.clear()
        for _ in range(3):
            assert opened.steps() == [0, 2]
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        with pytest.raises(ValueError, match=rf"Journal file '{path}' is damaged: .*{reason}") as error:
            opened.read(1)
        assert record.getMessage() == f"{error.value} It is left out."
    assert value(journal, 2) == 2
    assert path.read_bytes() == damaged
    journal.append(1, arrays(7), {})
    assert journal.steps() == [0, 1, 2]
    assert value(journal, 1) == 7


@pytest.mark.usefixtures("long")
def test_no_damage_goes_unnoticed() -> None:
    """A file cut anywhere, or with any one byte changed, is reported, or all its numbers are as they were."""
    journal = new_journal()
    path = journal.append(0, arrays(0.3), {"loss": 0.125})
    whole, content = journal.read(0), path.read_bytes()
    cut = [content[:length] for length in range(len(content))]
    changed = [content[:n] + bytes([content[n] ^ 0xFF]) + content[n + 1 :] for n in range(len(content))]
    unnoticed = 0
    for damaged in cut + changed:
        path.write_bytes(damaged)
        try:
            step = journal.read(0)
        except ValueError:  # any other error is a failure of this test
            continue
        unnoticed += 1
        assert (step.logs, step.time) == (whole.logs, whole.time)
        assert step.arrays.keys() == whole.arrays.keys()
        for name, array in whole.arrays.items():
            np.testing.assert_array_equal(step.arrays[name], array)
    assert unnoticed < len(content) / 2  # dates and the like, which no number hangs on


def test_a_file_without_a_number_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """`seven.npz` and `007.npz` are no steps, another kind of file is not looked at, a folder is not read."""
    journal = new_journal()
    journal.append(7, arrays(7), {})
    for name in ("seven.npz", "007.npz", "notes.txt"):
        shutil.copy(journal.path(7), journal.directory / "steps" / name)
    Path("journal/steps/8.npz").mkdir()
    for _ in range(2):
        assert journal.steps() == [7]
    said = sorted(record.getMessage() for record in caplog.records)
    assert [message.rpartition("/steps/")[2] for message in said[::2]] == [
        "007.npz' is no step: its name is not a number. It is left out.",
        "seven.npz' is no step: its name is not a number. It is left out.",
    ]
    assert len(said) == 3
    assert "8.npz' cannot be read: " in said[1]
    assert len(files("journal/steps")) == 5


def test_steps_are_read_once_to_be_checked(caplog: pytest.LogCaptureFixture) -> None:
    """What was found whole is not read again while date and size are the same: damage without a trace is not seen."""
    journal = new_journal()
    path = journal.append(0, arrays(0), {})
    assert journal.steps() == [0]
    status = path.stat()
    with path.open("r+b") as file:  # in place
        file.write(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert journal.steps() == [0]
    os.utime(path)
    assert journal.steps() == []
    journal.append(0, arrays(1), {})
    assert journal.steps() == [0]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("content", ["", '{"format": 1, "pro', "[]", "{}", '{"names": "\xff"}'])
def test_a_damaged_manifest_is_named(content: str) -> None:
    """Neither opening nor going on takes it for another journal's, and it is left as it is."""
    new_journal().append(0, arrays(0), {})
    path = Path("journal/manifest.json")
    path.write_bytes(content.encode("latin-1"))
    for opening in (lambda: Journal("journal"), new_journal):
        with pytest.raises(ValueError, match=r"The manifest\.json of journal 'journal' is damaged: .* Restore it, or"):
            opening()
    assert path.read_bytes() == content.encode("latin-1")


def test_damaged_pictures_are_named() -> None:
    """Pictures that are not what was written raise an error that names the file."""
    new_journal()
    path = Path("journal/manifest.json")
    path.write_text(path.read_text().replace("iVBOR", "AAAAA"))
    with pytest.raises(ValueError, match=r"The pictures in '.*/journal/manifest\.json' are damaged"):
        Journal("journal").pictures()


def test_there_is_no_journal_in_an_empty_folder() -> None:
    """Opening makes nothing."""
    with pytest.raises(FileNotFoundError):
        Journal("journal")
    assert files(".") == []


def test_a_journal_of_something_else_is_refused() -> None:
    """The message names everything that differs, both values, and what to do."""
    new_journal()
    assert new_journal().steps() == []
    assert new_journal(names=("others", "more")).manifest.names == MANIFEST.names
    changes = {"probes": "b" * 64, "layer": "other", "method": "layercam"}
    for number in range(1, 4):
        some = dict(list(changes.items())[:number])
        differing = "; ".join(f"{key} {getattr(MANIFEST, key)[:8]}, now it is {now[:8]}" for key, now in some.items())
        with pytest.raises(ValueError, match=r"Pass another journal_dir=, or take another run\.") as error:
            new_journal(**some)
        expected = f"Journal 'journal' was made with {differing}. Pass another journal_dir=, or take another run."
        assert str(error.value) == expected


def test_a_journal_of_another_format_is_refused() -> None:
    """A later format is not misread."""
    new_journal()
    path = Path("journal/manifest.json")
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match=r"Journal 'journal' has format 2; this version reads 1\."):
        Journal("journal")


def test_what_was_uploaded_is_remembered() -> None:
    """Any string of one line is an item, once, and is known to the next process and the one beside."""
    items = ["maps/0", "", "кот", "a b\tc\r", '"quoted"\\', "\udcff", "12"]
    journal = new_journal()
    beside = Journal("journal")
    assert journal.uploaded() == frozenset()
    journal.mark_uploaded(*items[:3])
    journal.mark_uploaded(*items[2:], *items)
    journal.mark_uploaded()
    assert journal.uploaded() == beside.uploaded() == Journal("journal").uploaded() == frozenset(items)
    beside.mark_uploaded("beside")
    assert journal.uploaded() == {*items, "beside"}
    assert Path("journal/uploaded").read_bytes().count(b"\n") == len(items) + 1
    with pytest.raises(ValueError, match="An item takes one line, 'a\\\\nb' takes more"):
        journal.mark_uploaded("fine", "a\nb")
    assert "fine" not in journal.uploaded()


@pytest.mark.parametrize("length", range(1, 7))
def test_a_torn_line_of_uploaded_is_no_item(length: int) -> None:
    """Wherever a line was cut, its item is not uploaded, what comes after it is, and nothing else is made up."""
    new_journal().mark_uploaded("a", 'b"12')
    path = Path("journal/uploaded")
    whole = path.read_bytes()
    path.write_bytes(whole[:-length])
    journal = Journal("journal")
    assert journal.uploaded() == {"a"}
    journal.mark_uploaded("12", "13")
    assert Journal("journal").uploaded() == {"a", "12", "13"} | ({'b"12'} if length == 1 else set())
    journal.mark_uploaded('b"12')
    assert Journal("journal").uploaded() == {"a", "12", "13", 'b"12'}


def test_a_mark_that_cannot_be_written_is_kept_in_memory() -> None:
    """A folder in the place of `uploaded` raises nothing; when it is gone, the marks are written."""
    journal = new_journal()
    Path("journal/uploaded").mkdir()
    journal.mark_uploaded("a", "b")
    assert journal.held == 2
    assert isinstance(journal.trouble, IsADirectoryError)
    assert journal.uploaded() == {"a", "b"}
    Path("journal/uploaded").rmdir()
    assert journal.flush()
    assert Journal("journal").uploaded() == {"a", "b"}


def test_focus_is_the_share_of_the_attention_inside() -> None:
    """A cell half inside the region counts half; without a region or attention the share is unknown, not 0."""
    maps = np.zeros((2, 3, 2, 2), np.float32)
    maps[:, 0] = [[1, 0], [0, 0]]
    maps[:, 1] = [[1, 1], [1, 5]]
    regions = np.zeros((2, 8, 8), bool)
    regions[0, :4, :] = True
    regions[0, 4:, :2] = True
    result = focus(maps, regions)
    np.testing.assert_allclose(result[0, :2], [1, (1 + 1 + 0.5) / 8])
    assert np.isnan(result[0, 2])
    assert np.isnan(result[1]).all()


# ---- Large steps ----


def test_what_is_large_is_not_compressed_and_reads_the_same() -> None:
    """The training waits for the file; what is sent is smaller, and has the same arrays to the last bit."""
    maps = np.maximum(np.random.default_rng(0).normal(size=(2, 1, 60, 60)), 0).astype(np.float32)
    journal = new_journal()
    path = journal.append(0, arrays(1.0) | {"maps": maps}, {"loss": 0.5})
    with zipfile.ZipFile(path) as archive:
        kinds = {info.filename: info.compress_type for info in archive.infolist()}
    assert kinds["maps.npy"] == zipfile.ZIP_STORED
    assert {kind for name, kind in kinds.items() if name != "maps.npy"} == {zipfile.ZIP_DEFLATED}
    content = journal.content(0)
    smaller = compressed(content)
    assert len(smaller) < 0.8 * len(content)
    with np.load(io.BytesIO(smaller)) as sent, np.load(path) as written:
        assert sent.files == written.files
    first, second = (Step.parse(each, path, journal.manifest) for each in (content, smaller))
    assert first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name])
    assert (first.logs, first.time) == (second.logs, second.time)
    small = journal.append(1, arrays(1.0), {})
    assert compressed(small.read_bytes()) == small.read_bytes()


def test_steps_that_are_known_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing a journal that this process wrote opens no file."""
    journal = new_journal()
    for step in range(20):
        journal.append(step, arrays(step), {})
    read: list[Path] = []
    monkeypatch.setattr("gradcam_callbacks.record.journal.read_regular", lambda path, most: read.append(path))
    assert journal.steps() == list(range(20))
    assert read == []


def test_a_step_of_another_journal_is_taken_as_it_is() -> None:
    """Its bytes are the same; those that are damaged are refused and change nothing."""
    new_journal().append(2, arrays(1), {"loss": 0.5})
    content = Journal("journal").content(2)
    other = new_journal("other")
    other.add(2, content)
    assert Journal("other").content(2) == content
    with pytest.raises(ValueError, match=r"steps/3\.npz' is damaged"):
        other.add(3, content[:-30])
    assert other.steps() == [2]


def test_a_status_that_cannot_be_removed_is_trouble_and_no_error() -> None:
    """A folder of that name is in the way: it is no status, and the training goes on."""
    journal = new_journal()
    Path("journal/status/within").mkdir(parents=True)
    journal.leave_status(None)
    assert journal.status is None
    assert isinstance(journal.trouble, OSError)


def test_which_metrics_are_wanted_is_what_was_asked_for_last() -> None:
    """They decide no map: the journal goes on, and says so to who opens it next."""
    new_journal(metrics="means").append(0, arrays(1), {})
    assert new_journal(metrics="all").steps() == [0]
    assert Journal("journal").manifest.metrics == "all"


def test_a_damaged_manifest_that_appears_is_left_alone() -> None:
    """What could not be read when the journal was made is compared with what is there, and never overwritten."""
    Path("place").write_text("in the way")
    journal = new_journal("place/journal")
    journal.append(0, arrays(1), {})
    Path("place").unlink()
    Path("place/journal").mkdir(parents=True)
    Path("place/journal/manifest.json").write_text("damaged")
    assert not journal.flush()
    assert Path("place/journal/manifest.json").read_text() == "damaged"
    assert isinstance(journal.trouble, OSError)
    assert journal.steps() == [0]
