"""The record on disk: what was explained and every step's numbers, before anything else happens to them."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import operator
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.files import make_folder, remove_stale, stamp, write_whole
from gradcam_callbacks.record.manifest import MOST_MANIFEST_BYTES, Manifest, differences
from gradcam_callbacks.record.reliance import MOST_TEST_BYTES, Reliance
from gradcam_callbacks.record.step import BASELINE, MOST_FILE_BYTES, MOST_STEP, Step
from gradcam_callbacks.regular_files import read_regular

logger = logging.getLogger(__name__)

_MOST_MARKS = 64 << 20
_STATES = ("FINISHED", "FAILED", "KILLED")


class Journal:
    """A folder with `manifest.json`, one `steps/<step>.npz` a recorded step, and the list `uploaded`.

    Where the model was tested, `tests/<step>.json` says what its answers rest on. Later parts of the run are journals
    of their own in `parts/<number>`, see `record.parts`.

    A file is there as a whole or not at all. What the disk does not take is held in memory, served from there, and
    written as soon as the disk takes it. Threads may share a journal; other processes may read it meanwhile.

    Attributes:
        directory: the folder, absolute.
        manifest: what decides and describes the maps.
        trouble: the first error of the disk, or None.
    """

    def __init__(self, directory: str | Path, *, _new: Manifest | None = None, _strict: bool = False) -> None:
        """Opens a journal; temporary files that a killed process left in it are removed.

        Args:
            directory: its folder.

        Raises:
            FileNotFoundError: if there is none in the folder.
            GradCAMError: if its manifest is damaged, or of another format.
        """
        self.directory = Path(directory)
        # Absolute, because a training may change its working directory. Where that directory was removed, there is no
        # absolute path, and the relative one is kept.
        with contextlib.suppress(OSError):
            self.directory = self.directory.absolute()
        self.manifest = self._manifest_on_disk(directory) if _new is None else _new
        self.trouble: OSError | None = None
        self._strict = _strict
        self._lock = threading.RLock()
        self._checking = threading.Lock()
        self._held: dict[Path, bytes] = {}  # files to write, oldest first
        self._marks: dict[str, None] = {}  # items to add to `uploaded`, oldest first
        self._uploaded: set[str] = set()
        self._is_ours = _new is None  # whether the manifest on disk has been compared with this one
        self._checked: dict[str, tuple[tuple[int, ...] | None, str]] = {}  # (mtime, size, inode), what is wrong
        self._bad_tests: set[str] = set()  # what was said of damaged ones
        for folder in (self.directory, self.directory / "steps", self.directory / "tests"):
            remove_stale(folder)

    @classmethod
    def create(cls, directory: str | Path, *, manifest: Manifest, pictures: Array, strict: bool = False) -> Journal:
        """Starts a journal, or goes on with the one that is there.

        Args:
            directory: made if it is missing.
            manifest: what decides and describes the maps.
            pictures: (N, H, W, 3) uint8.
            strict: whether errors of the disk are raised; otherwise what cannot be written is held in memory.

        Raises:
            GradCAMError: if the folder's journal was made with other probes, another layer or another method, or if its
                manifest is damaged.
            OSError: if strict, and the folder cannot be read or written.
        """
        try:
            journal = cls(directory, _strict=strict)
        except OSError:
            # There is no journal yet, or the folder cannot be read now. Writing tells the two apart: `_settle` compares
            # the manifest again where one turns up.
            new = manifest.made_now(pictures)
            journal = cls(directory, _new=new, _strict=strict)
            journal._held[journal.directory / "manifest.json"] = new.encoded()
            journal.flush()
            return journal
        different = differences(journal.manifest, manifest)
        if different:
            raise _other_maps(directory, different)
        goes_on = journal.manifest.gone_on_with(manifest)
        if goes_on != journal.manifest:
            journal.manifest = goes_on
            with journal._lock:
                journal._try(journal._put_manifest)
        return journal

    @property
    def held(self) -> int:
        """How many files and marks are only in memory."""
        return len(self._held) + len(self._marks)

    def pictures(self) -> Array:
        """(N, H, W, 3) uint8.

        Raises:
            ValueError: if they are damaged.
        """
        try:
            return self.manifest.decoded_pictures()
        except ValueError as error:
            file = self.directory / "manifest.json"
            raise GradCAMError(f"The pictures in '{file}' are damaged: {error}.") from error

    def regions(self) -> Array | None:
        """(N, H, W) bool, see `Manifest.masks`.

        Raises:
            ValueError: if they are damaged.
        """
        try:
            return self.manifest.masks()
        except ValueError as error:
            file = self.directory / "manifest.json"
            raise GradCAMError(f"The regions in '{file}' are damaged: {error}.") from error

    def append(self, step: int, arrays: Mapping[str, Array], logs: Mapping[str, float]) -> Path:
        """Writes a step, so that it is there as a whole or not at all; an earlier one of that number is replaced.

        Args:
            step: the 0-based epoch, or -1 for the baseline.
            arrays: by name; of numbers, booleans or strings.
            logs: the epoch's metrics.

        Returns:
            The file of the step, which is not there yet while `held` is not 0.

        Raises:
            ValueError: if the arrays could not be read back.
            OSError: if strict, and the disk does not take it.
        """
        if not BASELINE <= operator.index(step) <= MOST_STEP:
            raise GradCAMError(f"A step is an epoch, 0 or more, or -1 for the baseline, not {step}.")
        content = Step(step, arrays, logs, time.time()).encoded()
        path = self.path(step)
        with self._lock:
            self._hold(path, content)
        return path

    def add(self, step: int, content: bytes) -> None:
        """Takes a step that another journal wrote.

        Raises:
            ValueError: if the bytes are damaged.
            OSError: if strict, and the disk does not take it.
        """
        Step.parse(content, self.path(step), self.manifest)
        with self._lock:
            self._hold(self.path(step), content)

    def path(self, step: int) -> Path:
        """The file of a step."""
        return self.directory / "steps" / f"{operator.index(step)}.npz"

    def steps(self) -> list[int]:
        """The numbers of the steps that can be read to the end, in order; a damaged file is reported once."""
        with self._lock:
            held = {path.name for path in self._held if path.suffix == ".npz"}
            try:
                with os.scandir(self.directory / "steps") as listed:
                    entries = [entry for entry in listed if entry.name.endswith(".npz")]
            except OSError as error:
                self._note(error)
                entries = []
        with self._checking:  # the training thread may append meanwhile
            sound = {entry.name for entry in entries if entry.name not in held and self._is_sound(entry)}
        return sorted(int(name.removesuffix(".npz")) for name in held | sound)

    def read(self, step: int) -> Step:
        """One recorded step, read without pickle.

        Raises:
            FileNotFoundError: if it was not recorded.
            ValueError: if its file is damaged.
        """
        return Step.parse(self.content(step), self.path(step), self.manifest)

    def content(self, step: int) -> bytes:
        """The bytes of a step's file, also while it is only in memory.

        Raises:
            FileNotFoundError: if it was not recorded.
            GradCAMError: if its file is none that can be read, such as a pipe.
        """
        path = self.path(step)
        # No lock is needed: a file leaves memory only after it is on disk, so one of the two has it.
        held = self._held.get(path)
        return read_regular(path, MOST_FILE_BYTES) if held is None else held

    def leave_test(self, step: int, reliance: Reliance) -> Path:
        """Writes what a test of reliance found; an earlier one at that step is replaced.

        Args:
            step: the recorded step whose model was tested.
            reliance: what was found.

        Returns:
            The file of the test, which is not there yet while `held` is not 0.

        Raises:
            OSError: if strict, and the disk does not take it.
        """
        content = reliance.encoded()
        path = self._test_path(step)
        with self._lock:
            self._hold(path, content)
        return path

    def add_test(self, step: int, content: bytes) -> None:
        """Takes a test that another journal wrote.

        Raises:
            ValueError: if the bytes are damaged.
            OSError: if strict, and the disk does not take it.
        """
        path = self._test_path(step)
        Reliance.parse(content, str(path), probes=len(self.manifest.names))
        with self._lock:
            self._hold(path, content)

    def tests(self) -> dict[int, Reliance]:
        """The tests of reliance that can be read, by step, in order; a damaged file is reported once."""
        folder = self.directory / "tests"
        with self._lock:
            paths = {path for path in self._held if path.parent == folder}
            try:
                paths |= {path for path in folder.iterdir() if path.suffix == ".json"}
            except FileNotFoundError:
                pass  # nothing was tested, or by an earlier version
            except OSError as error:
                self._note(error)
        found = {}
        for path in paths:
            try:
                if not re.fullmatch("-1|0|[1-9][0-9]{0,14}", path.stem):
                    raise GradCAMError(f"Journal file '{path}' is no test: its name is not a number.")
                content = self.test_content(int(path.stem))
                found[int(path.stem)] = Reliance.parse(content, str(path), probes=len(self.manifest.names))
            except FileNotFoundError:  # removed between the two calls
                continue
            except (OSError, ValueError) as error:
                if str(error) not in self._bad_tests:
                    self._bad_tests.add(str(error))
                    logger.warning("%s It is left out.", error)
        return dict(sorted(found.items()))

    def test_content(self, step: int) -> bytes:
        """The bytes of a test's file, also while it is only in memory.

        Raises:
            FileNotFoundError: if there was no test at that step.
            GradCAMError: if its file is none that can be read, such as a pipe.
        """
        path = self._test_path(step)
        held = self._held.get(path)
        return read_regular(path, MOST_TEST_BYTES) if held is None else held

    def _test_path(self, step: int) -> Path:
        return self.directory / "tests" / f"{operator.index(step)}.json"

    def uploaded(self) -> frozenset[str]:
        """The items that were marked as uploaded, by this or another process; a half-written line does not count."""
        with self._lock:
            # Where the file is missing or cannot be read, what this process marked itself is the answer.
            with contextlib.suppress(OSError, GradCAMError):
                for line in read_regular(self.directory / "uploaded", _MOST_MARKS).split(b"\n")[:-1]:
                    # A process was killed while it wrote this line, or somebody else wrote it.
                    with contextlib.suppress(ValueError, RecursionError):
                        item = json.loads(line)
                        if isinstance(item, str):
                            self._uploaded.add(item)
            return frozenset(self._uploaded)

    def mark_uploaded(self, *items: str) -> None:
        """Remembers that items were uploaded, one line each in the file `uploaded`.

        Raises:
            ValueError: if an item contains a newline.
            OSError: if strict, and the disk does not take it.
        """
        wrong = [item for item in items if "\n" in item]
        if wrong:
            raise ValueError(f"An item takes one line, {wrong[0]!r} takes more.")
        with self._lock:
            self._marks |= dict.fromkeys(item for item in items if item not in self._uploaded)
            self._try(self._write_marks)
            self._uploaded.update(items)

    @property
    def status(self) -> str | None:
        """What the run is still to be ended with, such as "FINISHED", or None."""
        path = self.directory / "status"
        with self._lock:
            try:
                status = (self._held[path] if path in self._held else read_regular(path, 100)).decode()
            except (OSError, ValueError):  # there is none, or it is damaged
                return None
            return status if status in _STATES else None

    def leave_status(self, status: str | None) -> None:
        """Remembers that the run is still to be ended; with None, that it is not.

        Raises:
            OSError: if strict, and the disk does not take it.
        """
        path = self.directory / "status"
        with self._lock:
            if status is not None:
                self._hold(path, status.encode())
                return
            self._held.pop(path, None)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._note(error)

    def flush(self) -> bool:
        """Tries to write what is held in memory, the oldest first.

        Returns:
            Whether everything is on disk.

        Raises:
            OSError: if strict, and the disk does not take it.
        """
        with self._lock:
            if not self.held:
                return True
            for path in list(self._held):  # all of them: on a full disk, a smaller file may still fit
                self._try(self._put, path)
            self._try(self._write_marks)
            return not self.held

    def _hold(self, path: Path, content: bytes) -> None:
        """Writes a file, or keeps it in memory until the disk takes it.

        The oldest file that waits is tried first. Where the disk takes it, all that wait are written.
        """
        self._held[path] = content
        oldest = next(iter(self._held))
        if self._try(self._put, oldest):
            self.flush()
        elif oldest != path:
            self._try(self._put, path)

    def _try(self, write: Callable[..., None], *arguments: Path) -> bool:
        """Whether the disk takes it."""
        try:
            self._settle()
            write(*arguments)
        except OSError as error:
            self._note(error)
            return False
        return True

    def _put(self, path: Path) -> None:
        if path in self._held:  # `_settle`, which came before, has written the manifest already
            make_folder(path.parent)
            write_whole(path, self._held[path])
            if path.suffix == ".npz":
                self._checked[path.name] = (stamp(path), "")
            del self._held[path]

    def _put_manifest(self) -> None:
        write_whole(self.directory / "manifest.json", self.manifest.encoded())

    def _settle(self) -> None:
        """Makes the folders, and writes the manifest unless it is there.

        This comes before each file, so that no step is ever beside the manifest of another record.
        """
        make_folder(self.directory / "steps")
        manifest = self.directory / "manifest.json"
        if not manifest.exists():  # the journal is new, or somebody removed its folder
            self._put_manifest()
        elif not self._is_ours:  # a manifest that could not be read when this journal was made
            try:
                different = differences(self._manifest_on_disk(self.directory), self.manifest)
            except ValueError as error:
                raise FileExistsError(errno.EEXIST, str(error)) from error
            if different:
                raise FileExistsError(errno.EEXIST, str(_other_maps(self.directory, different)))
        self._held.pop(manifest, None)
        self._is_ours = True

    def _manifest_on_disk(self, name: str | Path) -> Manifest:
        """The manifest in the folder; `name` is what errors call the journal."""
        return Manifest.parse(read_regular(self.directory / "manifest.json", MOST_MANIFEST_BYTES), name)

    def _write_marks(self) -> None:
        if not self._marks:
            return
        # Unbuffered, so that each line is one system call at the end of the file. Each line is a JSON string: what a
        # killed process leaves of one is no JSON, so that a torn "12" is never taken for "1".
        path = self.directory / "uploaded"
        if path.exists() and not path.is_file() and not path.is_dir():
            raise FileExistsError(errno.EEXIST, "It is no regular file", str(path))
        with path.open("ab+", buffering=0) as file:
            is_torn = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            for item in list(self._marks):
                line = b"\n" * is_torn + json.dumps(item).encode() + b"\n"
                is_torn = False
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
                del self._marks[item]

    def _is_sound(self, entry: os.DirEntry[str]) -> bool:
        """Whether a file is a whole step; if not, that is logged once."""
        checked, known_problem = self._checked.get(entry.name, (None, ""))
        found: tuple[int, ...] | None = None
        problem = ""
        try:
            found = stamp(entry)
            if found == checked:
                return not known_problem
            path = Path(entry.path)
            Step.parse(read_regular(path, MOST_FILE_BYTES), path, self.manifest)
        except FileNotFoundError:
            return False
        except OSError as error:  # such as a network drive that is away: it is read again at the next call
            found, problem = None, f"Journal file '{entry.path}' cannot be read: {error}."
        except ValueError as error:
            problem = str(error)
        if problem and problem != known_problem:
            logger.warning("%s It is left out.", problem)
        self._checked[entry.name] = (found, problem)
        return not problem

    def _note(self, error: OSError) -> None:
        """Raises the error if strict, else keeps the first one."""
        if self._strict:
            self._held.clear()
            self._marks.clear()
            raise error
        if self.trouble is None:
            self.trouble = error.with_traceback(None)  # a traceback would keep the arrays of its frames in memory


def _other_maps(directory: str | Path, different: str) -> GradCAMError:
    """The error where a journal holds other maps."""
    return GradCAMError(
        f"Journal '{directory}' was made with {different}.",
        "Pass another {argument}, or take another run.",
        argument="journal_dir",
    )
