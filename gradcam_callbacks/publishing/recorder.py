"""Recorder: one run with its journal and its worker, where the explanations of every driver go."""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np

import gradcam_callbacks
from gradcam_callbacks import drawing, notebook
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.probes.probe_set import ProbeSet
from gradcam_callbacks.publishing import living
from gradcam_callbacks.publishing.claims import Claim
from gradcam_callbacks.publishing.delivery import Delivery
from gradcam_callbacks.publishing.found import Found
from gradcam_callbacks.publishing.live import LiveView
from gradcam_callbacks.publishing.store import HungUpError, Item, Kind, Store, steps_of
from gradcam_callbacks.publishing.uploader import Kept, Uploader
from gradcam_callbacks.publishing.worker import Worker
from gradcam_callbacks.record.health import in_place
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.parts import run_folder
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.record.step import BASELINE, Step
from gradcam_callbacks.reviewing import parts
from gradcam_callbacks.reviewing.drift import unevenness
from gradcam_callbacks.reviewing.measuring import Explained, measure_step
from gradcam_callbacks.reviewing.suspicion import Suspicion
from gradcam_callbacks.reviewing.verdict import Verdict

logger = logging.getLogger(__name__)

FLOOR_EVERY = 5
"""How many records share one measurement of the noise."""
_MOST_LEFT = 64 * 2**20
"""How many bytes of steps are kept in memory for a next training in the same run."""


@dataclass
class _Left:
    """The parts of a run that the last training left open, by number."""

    run_id: str = ""
    parts: dict[int, Kept] = field(default_factory=dict)


_left = _Left()
_said: dict[str, dict[str, tuple[int | None, str]]] = {}
"""What was last said of the last runs, by run and by what it is about, and in which cell of a notebook."""
_MOST_SAID = 64
"""Of how many runs that is kept."""


class Recorder:
    """Measures and journals explanations; a worker sends them to a store.

    What the run holds of other maps stays beside what is recorded now, which is another part of the run then; see
    `record.parts`.

    Attributes:
        store: the run.
        journal: on disk, of the part of the run that is recorded.
        earlier: the steps that journal or run held before, of all parts; the baseline is that of the part.
        next_free: the step after the last of them.
        part_steps: those of the part that is recorded.
        recorded: the steps of this recorder.
        drift: the mean drift of the last record, or None where it is not known.
        problems: how many steps could not be explained.
        model_in_training: says which LoggedModel of MLflow this thread trains; None where there is none.
        is_suspicious: whether the maps look like a shortcut as of the last record; see `Suspicion`.
        verdict: what the record comes to, once it is closed; None where that is not known.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        worker: Worker,
        probes: ProbeSet,
        delivery: Delivery,
        *,
        earlier: frozenset[int],
        part_steps: frozenset[int],
        last: Step | None,
        ends_run: bool,
        alive: IO[bytes] | None,
        claim: Claim,
        live: LiveView | None,
    ) -> None:
        """Takes what `open` has opened.

        Args:
            store: the run.
            journal: of the run.
            worker: that sends the journal to the run.
            probes: what is explained.
            delivery: the user's settings.
            earlier: the steps that journal or run held before, of all parts.
            part_steps: those of the part of the journal.
            last: the last of these, to compare the next one with, if that is known.
            ends_run: whether to end the run at the end.
            alive: the lock that tells others that this process still records.
            claim: on run and journal; released at the end.
            live: what a notebook shows meanwhile.
        """
        self.store = store
        self.journal = journal
        self.earlier = earlier
        self.next_free = max(earlier, default=-1) + 1
        self.part_steps = part_steps
        self.recorded: set[int] = set()
        self.drift: float | None = None
        self.problems = 0
        self.model_in_training: Callable[[], str | None] | None = None
        self.is_suspicious = False
        self.verdict: Verdict | None = None
        self._suspicion = Suspicion(journal.manifest)
        self._probes = probes
        self._delivery = delivery
        self._worker: Worker | None = worker
        self._last = last
        self._floor: Array = np.array(np.nan)  # of each map, when it was last measured
        self._review_file = worker.uploader.review_file
        self._ends_run = ends_run
        self._alive = alive
        self._claim = claim
        self._live = live
        self._warned_of_disk = False
        self._has_raised = False

    @classmethod
    def open(cls, store: Store, probes: ProbeSet, manifest: Manifest, delivery: Delivery) -> Recorder:
        """Opens the journal and starts the worker.

        Where the run holds maps of other probes, another layer or another method, a training is recorded as another
        part of the run, which is said. A sweep is refused: the numbers of its steps are given.

        Args:
            store: the run. If this fails, a new one of ours is ended as FAILED.
            probes: what is explained.
            manifest: what decides and describes the maps; run and part are filled in here.
            delivery: the user's settings.

        Raises:
            GradCAMError: if the journal is of another run, or another training records into journal or run now, or
                they hold other maps and this is a sweep.
            RuntimeError: if the run may hold steps, and does not answer which.
            OSError: if strict, and the disk does not take the journal.
        """
        manifest = replace(
            manifest,
            version=gradcam_callbacks.__version__,
            run_id=store.run_id,
            run_name=store.name,
            tracking_uri=store.address,
            cards=delivery.cards,
        )
        folder = delivery.folder(store.run_id)
        alive = claim = None
        try:
            claim = Claim(store.run_id, folder)
            found = Found.of(store, folder, manifest, _left.parts if _left.run_id == store.run_id else {})
            for other in found.others.values():
                claim.check(other.directory)
            manifest = found.as_part(manifest)
            journal = _open_journal(found, probes, manifest, delivery)
            claim.against_processes(journal.directory)
            # An earlier training may have left a note that its run still has to be ended. This recorder does it then.
            ends_run = store.is_ours or any(one.status is not None for one in (journal, *found.others.values()))
            journal.leave_status("FAILED" if ends_run else None)  # if this process is killed, `gradcam upload` does it
            for other in found.others.values():
                other.leave_status(None)
            alive = living.hold(journal.directory / "status") if ends_run else None
            journaled = journal.steps()
            kept = found.kept.get(found.number, Kept(manifest))
            in_run, of_part = _steps_of_run(store, found)
            part_steps = frozenset(journaled) | kept.steps.keys() | of_part
            last = max(part_steps, default=BASELINE)
            compared = None
            if last >= 0 and last not in journaled:
                part = store if found.number == 1 else store.part(found.number)
                compared = _fetched(part, journal, last, kept.steps)
            uploader = Uploader(
                journal,
                store,
                has_animation=delivery.animation,
                earlier=kept.steps,
                earlier_tests=kept.tests,
                others=[Uploader(other, store) for other in found.others.values()],
                kept=found.kept,
            )
            uploader.ends_run = False
            live = LiveView.of(store.run_id) if delivery.live else None
            worker = Worker(uploader, live)
        except BaseException:
            living.release(alive)
            if claim is not None:
                claim.release()
            if store.is_ours and store.is_new:  # one that held something before stays as it was
                _end(store, "FAILED")
            raise
        drawing.warn_of_missing([*manifest.names, *manifest.targets, *(manifest.class_names or ())])
        for step in journaled:  # steps of an earlier process may not be in the store yet
            worker.put(step)
        return cls(
            store,
            journal,
            worker,
            probes,
            delivery,
            earlier=part_steps | in_run | found.steps_elsewhere(),
            part_steps=part_steps,
            last=compared,
            ends_run=ends_run,
            alive=alive,
            claim=claim,
            live=live,
        )

    def wants_noise(self) -> bool:
        """Whether it is the turn of the next record to measure the noise floor."""
        return len(self.recorded) % FLOOR_EVERY == 0

    def record(
        self,
        step: int,
        arrays: Mapping[str, Array],
        logs: Mapping[str, float],
        *,
        noisy: Mapping[str, Array] | None = None,
        is_cut_short: bool = False,
        model_id: str | None = None,
    ) -> None:
        """Measures a step, writes it to the journal, and lets the worker send it.

        A map that is no less even than the noise moves it says nothing about where, and becomes "flat".

        Args:
            step: the 0-based epoch.
            arrays: of an `Explanation`.
            logs: the epoch's metrics.
            noisy: the arrays of the same weights under `ProbeSet.jittered`.
            is_cut_short: whether the epoch has not ended.
            model_id: the LoggedModel of MLflow that holds the weights; by default the one that is being trained.

        Raises:
            RuntimeError: if strict, and it does not arrive, or parts of it cannot be drawn.
            OSError: if strict, and the disk does not take it.
        """
        before = self._before(step)
        maps = in_place(arrays["maps"], arrays["health"])
        maps.flags.writeable = False  # what several measures need of them is worked out once
        measures = measure_step(
            Explained(maps, arrays["explained"]),
            before=None if before is None else Explained(before.shown, before.explained),
            noisy=None if noisy is None else Explained(noisy["maps"], noisy["explained"]),
            regions=self._probes.regions,
        )
        if "floor" in measures:
            self._floor = np.where(np.isnan(measures["floor"]), self._floor, measures["floor"])
        is_noise = (arrays["health"] == "ok") & (unevenness(maps) <= self._floor)
        health = np.where(is_noise, "flat", arrays["health"])
        arrays = {**arrays, **measures, "health": health, "lost": np.array(self.problems)}
        if is_cut_short:
            arrays["cut_short"] = np.array(True)
        model_id = model_id or self._model_in_training()
        if model_id is not None:
            arrays["model_id"] = np.array(model_id)
        self.journal.append(step, arrays, logs)
        self.recorded.add(step)
        self.is_suspicious = self._suspicion.is_raised_by(Step(step, arrays, logs, 0.0))
        self._last = Step(step, {name: arrays[name] for name in ("maps", "explained", "health")}, {}, 0.0)
        known = arrays.get("drift", np.array(np.nan))
        self.drift = float(np.nanmean(known)) if np.isfinite(known).any() else None
        self._warn_of_disk()
        self._send(step)

    def _model_in_training(self) -> str | None:
        """What MLflow says in this thread; the worker's would not know."""
        if self.model_in_training is not None:
            with contextlib.suppress(Exception):  # without it, metrics are of the run alone
                return self.model_in_training()
        return None

    def leave_test(self, step: int, reliance: Reliance) -> None:
        """Writes what a test of reliance found to the journal, and lets the worker send it with a new review.

        Args:
            step: the recorded step whose model was tested.
            reliance: what was found.

        Raises:
            OSError: if strict, and the disk does not take it.
        """
        self.journal.leave_test(step, reliance)
        self._warn_of_disk()
        if self._worker is not None:
            self._worker.review()

    def failed(self, step: int) -> None:
        """Takes note of a step that could not be recorded; called where the error is handled.

        Raises:
            Exception: that error, if strict.
        """
        if self._delivery.strict:
            self._has_raised = True
            raise
        self.problems += 1
        self.drift = None
        if self.problems == 1:
            logger.exception("Step %d could not be explained; it goes on.", step)

    @property
    def is_open(self) -> bool:
        """Whether it takes records: it was not closed, and did not raise."""
        return self._worker is not None and not self._has_raised

    def close(self, status: str) -> None:
        """Waits until everything has arrived, ends a run of ours, and says where it is, or what is missing.

        Args:
            status: "FINISHED" or "FAILED". The journal of a sweep that failed stays: the next one goes on with it.
        """
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        self._claim.is_ending = True
        try:
            # Where strict has raised, `record` has waited already.
            worker.close(0 if self._has_raised else self._delivery.flush_timeout)
        finally:  # also where somebody does not want to wait
            is_ended = not self._ends_run or _end(self.store, status)
            with contextlib.suppress(OSError):  # strict, and said before
                self.journal.leave_status(None if is_ended else status)
                self.journal.flush()
            living.release(self._alive)
            worker.uploader.ends_run = True
            missing, journals = worker.uploader.missing(), worker.uploader.journals
            judged = None if missing else worker.uploader.verdict
            self.verdict = self._judged(journals) if judged is None else judged
            is_needed = self.journal.manifest.source is not None and status != "FINISHED"
            try:
                self._say_goodbye(missing, journals, keeps_journal=self._delivery.keeps_journal or is_needed)
            finally:
                worker.uploader.remove_copies()
                self._claim.release()

    def say_hello(self) -> None:
        """Says where the pictures and the review will be, before there are any."""
        where = self._where_to_look(self._review_file)
        self._say(
            "start",
            f"Grad-CAM watches {len(self._probes)} probes in run {self.store.name}. The review is made anew every few "
            f"records:\n{where}",
        )

    def show_live(self) -> None:
        """Makes the place in the notebook where the newest step is shown, if that is asked for, once."""
        if self._live is not None:
            self._live.begin()

    def undisturbed(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the worker begins no picture: what the training waits for goes first."""
        return contextlib.nullcontext() if self._worker is None else self._worker.undisturbed()

    def _warn_of_disk(self) -> None:
        """Says once that the disk does not take the journal."""
        if self.journal.trouble is not None and not self._warned_of_disk:
            self._warned_of_disk = True
            logger.warning(
                "The journal '%s' could not be written (%s); it goes on. What the disk does not take is kept in memory "
                "and sent to %s from there.",
                self.journal.directory,
                self.journal.trouble,
                self.store.title,
            )

    def _send(self, step: int) -> None:
        """Lets the worker send a step; if strict, waits until it has arrived."""
        if self._worker is None:
            return
        self._worker.put(step)
        if not self._delivery.strict:
            return
        has_arrived = self._worker.wait(self._delivery.flush_timeout)
        error = self._worker.uploader.error
        if not has_arrived or error is not None:
            raise RuntimeError(
                f"Step {step} has not arrived in {self.store.title}, and strict=True: {error}. It is kept in "
                f"'{self.journal.directory}'."
            )

    def _say_goodbye(self, missing: list[Item], journals: Sequence[Journal], *, keeps_journal: bool) -> None:
        """Says what is missing, or where to look; a journal that is not needed any more is removed."""
        directory = run_folder(self.journal.directory)
        if self.problems:
            logger.warning("%d steps could not be explained, and are not recorded.", self.problems)
        if self.verdict is not None:
            self._say("verdict", f"Grad-CAM verdict: {self.verdict.name}. {self.verdict.summary}")
        if missing:
            pictures = sum(item.kind is Kind.TILE for item in missing)
            command = shlex.join(["gradcam", "upload", str(directory), "--tracking-uri", self.store.address])
            logger.warning(
                "%d items have not arrived in %s. %s sends the rest.%s%s",
                len(missing),
                self.store.title,
                f"`{command}`" if self.store.address else f"The same store with '{directory}'",
                f" {'All' if pictures == len(missing) else pictures} of them are pictures." * bool(pictures),
                f" What the disk did not take is lost ({self.journal.trouble})." * bool(self.journal.held),
            )
            return
        file = self._review_file
        is_there = file.exists() and (keeps_journal or directory.absolute() not in file.parents)
        where = self._where_to_look(file if is_there else None)
        self._say("end", f"Grad-CAM of {len(self._probes)} probes in run {self.store.name}:\n{where}")
        if not keeps_journal:
            if not self._ends_run:  # another `fit` may follow in it
                self._leave_steps(journals)
            with contextlib.suppress(OSError):
                shutil.rmtree(directory)
            with contextlib.suppress(OSError):  # other runs still keep theirs there
                directory.parent.rmdir()

    def _where_to_look(self, file: Path | None) -> str:
        """Lines for a person, one for each place, so that each can be copied.

        Args:
            file: of the review on this machine, if it is known.
        """
        page = self.journal.manifest.page
        store = self.store if page == 1 else self.store.part(page)
        return store.where_to_look() + (f"\n  file      {file}" if file is not None else "")

    def _say(self, about: str, text: str) -> None:
        """Prints a text, unless the last one about this in this run was the same, as in a loop of short trainings."""
        if not self._delivery.verbose:
            return
        said, now = _said.setdefault(self.store.run_id, {}), (notebook.cell(), text)
        if said.get(about) != now:
            said[about] = now
            print(text, flush=True)  # noqa: T201
        while len(_said) > _MOST_SAID:
            del _said[next(iter(_said))]

    def _judged(self, journals: Sequence[Journal]) -> Verdict | None:
        """The verdict on what journals hold, for where no review was made at the end."""
        try:
            return parts.verdict_of(parts.assessed(journals))
        except Exception:  # of a damaged journal, or without a step
            logger.debug("There is no verdict.", exc_info=True)
            return None

    def _leave_steps(self, journals: Sequence[Journal]) -> None:
        """Keeps the last steps in memory, so that a next `fit` in this run need not fetch them.

        Args:
            journals: of the parts of the run; those of the first one come first.
        """
        global _left
        _left = left = _Left(self.store.run_id)
        size = 0
        for journal in journals:
            left.parts[journal.manifest.part] = kept = Kept(journal.manifest)
            with contextlib.suppress(OSError):
                kept.tests.update({step: journal.test_content(step) for step in journal.tests()})
                for step in reversed(journal.steps()):
                    content = journal.content(step)
                    size += len(content)
                    if size > _MOST_LEFT:
                        break
                    kept.steps[step] = content

    def _before(self, step: int) -> Step | None:
        """The last record before a step: of this recorder, or of an earlier one."""
        earlier = max((number for number in self.part_steps if number < step), default=BASELINE - 1)
        if self._last is not None and earlier <= self._last.step < step:
            return self._last
        with contextlib.suppress(OSError, ValueError):  # there is none, or it is damaged
            return self.journal.read(earlier)
        return None


def _open_journal(found: Found, probes: ProbeSet, manifest: Manifest, delivery: Delivery) -> Journal:
    """The journal of a part, new or gone on with.

    Raises:
        GradCAMError: if it holds other maps, or those of another run.
    """
    journal = Journal.create(found.own, manifest=manifest, pictures=probes.pictures, strict=delivery.strict)
    other = journal.manifest.run_id
    if other != manifest.run_id:
        raise GradCAMError(
            f"Journal '{delivery.journal_dir}' holds the maps of run {other}, and this training logs to run "
            f"{manifest.run_id}.",
            "Pass {argument} to go on with that run, or another journal.",
            argument="run_id",
            value=other,
        )
    return journal


def _steps_of_run(store: Store, found: Found) -> tuple[set[int], set[int]]:
    """The steps that the run holds, of all parts, and those of the part that goes on.

    Raises:
        RuntimeError: if it may hold some that are not known here, and does not answer.
    """
    if store.is_new:
        return set(), set()
    try:
        steps = of_part = steps_of(store)
        if found.told - {found.number}:
            is_there = found.number in found.told
            held = store.part(found.number).held(Kind.MAPS) if is_there else ()
            of_part = {item.step for item in held if item.step is not None}
        return steps, of_part - found.steps_elsewhere()
    except Exception as error:
        if store.was_empty or any(one.steps for one in found.kept.values()):
            return set(), set()
        raise RuntimeError(
            f"{store.title} does not say which steps run {store.run_id} holds already, so that new ones could "
            f"replace them: {error}. Try again when it answers, or use a new run."
        ) from error


def _fetched(store: Store, journal: Journal, step: int, left: Mapping[int, bytes]) -> Step | None:
    """A step of the run that the journal does not hold; None if nobody has it now."""
    try:
        content = left[step] if step in left else store.fetch(step)
        found = Step.parse(content, journal.path(step))
        return found if {"maps", "explained"} <= found.arrays.keys() else None
    except Exception:  # whatever store or network it is
        return None


def _end(store: Store, status: str) -> bool:
    """Whether the run is ended now; a store that is away does not stop this for long."""
    for _ in range(2):  # a store may hang up on an old connection
        try:
            store.finish(status)
        except HungUpError:
            continue
        except Exception:  # it is ended later, by `gradcam upload`
            return False
        else:
            return True
    return False
