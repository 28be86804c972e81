"""GradCAMCallback: explains the probes at the end of every epoch of `fit`."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.backend import refuse_other_backends
from gradcam_callbacks.explaining.engines.engine import engine
from gradcam_callbacks.explaining.explainer import Explainer
from gradcam_callbacks.explaining.keras2 import refuse_keras2
from gradcam_callbacks.probes.probe_set import as_probes
from gradcam_callbacks.publishing.cards import cards_setting
from gradcam_callbacks.publishing.delivery import Delivery
from gradcam_callbacks.publishing.metrics import chosen_metrics
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.training.failed_fit import close_left
from gradcam_callbacks.training.schedule import Schedule
from gradcam_callbacks.training.session import Session

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from gradcam_callbacks.explaining.capture import Capture
    from gradcam_callbacks.explaining.methods import Method
    from gradcam_callbacks.publishing.recorder import Recorder
    from gradcam_callbacks.publishing.store import Store


@dataclass
class _Training:
    """What a callback knows of the training in one thread."""

    model: keras.Model | None = None
    params: dict[str, Any] | None = None
    session: Session | None = None


class GradCAMCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Records where a model looks, every epoch, and logs it to MLflow.

    At the end of an epoch the training thread runs one forward pass of the probes and writes one small file; a worker
    renders and uploads. Wrong configuration raises before the first batch; nothing after that ends a training.

    Before the first batch a baseline is recorded as step -1: what a fine-tuning starts from. Each epoch's `logs` get
    `gradcam_drift`, the share of the attention that moved since the step before, for `EarlyStopping("gradcam_drift",
    mode="min")` and `CSVLogger`; they stand after it in the list. An epoch that is not recorded, or that nothing can be
    compared with, has the last one; as long as there was none, it has none, and a NaN in `History`.

    The step of a record is its 0-based epoch. In a second `fit` of one run that starts at epoch 0 again, the steps go
    on after those of the first. Of several workers of a distributed training only the chief records.

    A run may hold several trainings. What can be compared, such as the folds of a cross-validation, is one record.
    Where probes, method, output or the layer's place, class or shape are others, the training is recorded as another
    part of the run, which a warning says: with the same probes side by side on the page, else with a page of its own.

    Layers that are random when they predict draw the same noise at each step, so that two epochs differ by what the
    model learned. The training draws what it would draw without the callback.

    If `fit` raises, by a fault or by Ctrl-C, what was recorded still arrives. Where `every` had left out the last epoch
    that ended, the model is recorded once more, as it is then: as that epoch or, if it has trained on since, as the
    epoch that was broken off, marked as cut short.

    A copy, also by pickle, is a new callback of the same settings that has trained nothing. It shares `store`, if there
    is one; by pickle the store is copied, too.

    One callback may be in several trainings at once, each in its own thread, as in a search with several workers. Each
    is recorded in a run of its own.

    Attributes:
        explainer: of the last training; None before the first.
        problems: how many steps of all trainings could not be recorded.
    """

    def __init__(
        self,
        probes: Any,
        *,
        layer: str | Sequence[str] | None = None,
        method: str | Method = "gradcam",
        output: str | int | None = None,
        every: int = 1,
        every_batches: int | None = None,
        run_id: str | None = None,
        store: Store | None = None,
        journal_dir: str | Path | None = None,
        keep_journal: bool = False,
        baseline: bool = True,
        noise_floor: bool = True,
        reliance: bool = True,
        animation: bool = False,
        metrics: str | Sequence[str] = "means",
        flush_timeout: float = 60,
        strict: bool = False,
        verbose: bool = True,
        grid: tuple[int, int] | None = None,
        cards: int | str | None = None,
        live: bool = False,
    ) -> None:
        """Takes the settings; the model comes with `fit`.

        Args:
            probes: a `ProbeSet`, an array of images, or an (images, labels) pair.
            layer: the path or unique name of the layer to explain, or several of them, whose maps are fused; None picks
                the last map that all of the score goes through. See `Explainer`.
            method: a name in `gradcam_callbacks.METHODS`, or a function; see `Explainer`.
            output: the head of a multi-output model, by name or index.
            every: record every n-th epoch; the first and the last always.
            every_batches: for long epochs: record after every so many batches instead, and at the end of the training.
                A step is then the 0-based number of the batch since the start of the training.
            run_id: the MLflow run; by default the active one, or a new one that ends with the training.
            store: what keeps the run instead of MLflow, such as an `InMemoryStore`.
            journal_dir: where the record is kept on disk; it stays there. By default `.gradcam/<run id>`, removed when
                all of it has arrived in MLflow.
            keep_journal: whether to keep it there in any case.
            baseline: whether to record what the model looks at before the first batch.
            noise_floor: whether each fifth record also explains the probes under a tiny change of the input, so that
                noise of the maps is not read as movement; one more forward pass.
            reliance: whether the network is asked at the end of the training, and at most three times before, when
                suspicion first rises, whether its answers rest on something beside the objects: areas of the probes are
                covered, and pasted on others. That costs forward passes, as `measure_reliance` says. Without it, a
                verdict can only suspect a shortcut.
            animation: whether to log an animated picture of each probe at the end.
            metrics: "means" sends means over all probes, and over those of each class where they have labels of 2 to 10
                classes; "all" also one metric a probe and target; () sends none. The maps, and all numbers of each, are
                recorded in any case.
            flush_timeout: how many seconds the end of the training waits for MLflow at most.
            strict: whether a problem during the training raises at once; each step then waits until it has arrived.
            verbose: whether to print where the pictures and the review are, before the first batch and at the end, and
                the verdict.
            grid: (h, w) of the tokens of a transformer, where their number does not tell.
            cards: which probes get an image card; all are in the maps and in the review. A number: the first so many;
                "all"; "moved": the 32 whose maps moved most; "flagged": up to 32 with something to see, which is a map
                that says nothing, attention that jumped while the answer stayed, or that left the region. By default
                all up to 32 probes; of more the first 16, and 16 others: the flagged ones, then those that moved most.
                They are chosen as the training goes on, and each card begins with the first step. The first 16 of them
                are also on one card, "all".
            live: whether a notebook shows the newest maps of the first 8 probes and the verdict so far, under Keras's
                progress bar; elsewhere it does nothing.

        Raises:
            GradCAMError: if the probes, `every`, `every_batches`, `metrics`, `flush_timeout` or `cards` make no sense,
                or Keras runs on another backend than TensorFlow or JAX.
        """
        refuse_other_backends()
        self._forget_trainings()
        super().__init__()
        _check_numbers(every, every_batches, flush_timeout)
        chosen_metrics(metrics)
        cards_setting(cards)
        if run_id is not None and store is not None:
            raise GradCAMError("A store is a run already.", "Leave {argument} away.", argument="run_id", value=run_id)
        self.probes = as_probes(probes)
        self.layer = layer
        self.method = method
        self.output = output
        self.every = every
        self.every_batches = every_batches
        self.run_id = run_id
        self.store = store
        self.journal_dir = journal_dir
        self.keep_journal = keep_journal
        self.baseline = baseline
        self.noise_floor = noise_floor
        self.reliance = reliance
        self.animation = animation
        self.metrics = metrics
        self.flush_timeout = flush_timeout
        self.strict = strict
        self.verbose = verbose
        self.grid = grid
        self.cards = cards
        self.live = live
        self.problems = 0
        self.explainer: Explainer | None = None

    def set_model(self, model: keras.Model) -> None:
        """Takes the model; Keras calls this first.

        Raises:
            GradCAMError: if it is one of Keras 2.
        """
        refuse_keras2(model)
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks everything against the model, and opens run, journal and worker.

        Raises:
            GradCAMError: if the model cannot be explained with these settings, the journal holds the record of another
                run, or another training records into the run or the journal now.
            NotInstalledError: if MLflow is too old, or its autologging lacks TensorBoard.
        """
        self._close("FAILED")  # an earlier training of this callback that is still open has failed
        close_left()
        if not engine.is_chief():
            return
        model, params = _can_be_run(self.model), self.params or {}
        from gradcam_callbacks.explaining.feeding import build, is_built

        if not is_built(model):
            build(model, self.probes.batch(0, 1))  # as Keras does with the first batch; the same weights
        # A new one for each training: layers may have been added, frozen or adapted since the last.
        explainer = Explainer(
            model, layer=self.layer, method=self.method, output=self.output, grid=self.grid, same_noise=True
        )
        self.explainer = explainer
        traced = explainer.prepare(self.probes)
        schedule = Schedule(
            every=self.every,
            every_batches=self.every_batches,
            epochs=params.get("epochs"),
            batches=params.get("steps"),
        )
        jittered = self.probes.jittered() if self.noise_floor else None
        recorder = self._open_recorder(explainer.method, traced)
        session = Session(
            explainer,
            self.probes,
            jittered,
            recorder,
            schedule,
            strict=self.strict,
            on_problem=self._count_problem,
            reliance=self.reliance,
        )
        session.begin(baseline=self.baseline)
        recorder.say_hello()
        self._session = session

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes note of the epoch."""
        session = self._own_session()
        if session is not None:
            session.epoch_began(epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the batch if it is its turn."""
        session = self._own_session()
        if session is not None:
            session.batch_ended(batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the epoch if it is its turn, or the first or the last."""
        session = self._own_session()
        if session is not None:
            session.epoch_ended(epoch, logs, is_stopping=bool(getattr(self.model, "stop_training", False)))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits until everything has arrived, and says where it is."""
        self._close("FINISHED")

    @property
    def async_safe(self) -> bool:
        """Whether Keras may tell of a batch while the next one runs: where batches do not count, we do nothing then.

        Otherwise Keras would wait for each batch to end before it begins the next one, on JAX.
        """
        return self.every_batches is None

    # Keras writes `params` and `_model` of a callback, and a thread has its own.

    @property
    def params(self) -> dict[str, Any] | None:
        """What Keras says of the training in this thread."""
        return self._training.params

    @params.setter
    def params(self, params: dict[str, Any] | None) -> None:
        (self._training if params is None else self._own_training()).params = params

    @property
    def _model(self) -> keras.Model | None:
        return self._training.model

    @_model.setter
    def _model(self, model: keras.Model | None) -> None:
        (self._training if model is None else self._own_training()).model = model

    @property
    def _session(self) -> Session | None:
        return self._training.session

    @_session.setter
    def _session(self, session: Session | None) -> None:
        self._training.session = session

    @property
    def _training(self) -> _Training:
        """The training of this thread; in a thread that has none, the one that began last."""
        return getattr(self._of_thread, "training", self._latest)

    def _own_training(self) -> _Training:
        """The training of this thread, a new one if it has none."""
        if not hasattr(self._of_thread, "training"):
            self._latest = self._of_thread.training = _Training()
        return self._training

    def _forget_trainings(self) -> None:
        self._of_thread = threading.local()
        self._latest = _Training()

    def _open_recorder(self, method: str, traced: Capture) -> Recorder:
        """Opens run and journal for maps of that layer. What loads MLflow is loaded here."""
        from gradcam_callbacks.publishing.recorder import Recorder

        manifest = Manifest(
            **self.probes.description(),
            layer=" + ".join(info.path for info in traced.layers),
            place=traced.place,
            method=method,
            score_kind=traced.score_kind,
            notes=traced.sentences,
            output="" if self.output is None else str(self.output),
            unit="epoch" if self.every_batches is None else "batch",
            metrics=chosen_metrics(self.metrics),
            engine=keras.config.backend(),
        )
        delivery = Delivery(
            self.journal_dir,
            self.keep_journal,
            self.animation,
            self.flush_timeout,
            self.strict,
            self.verbose,
            cards_setting(self.cards),
            self.live,
        )
        store = self.store
        if store is None:
            from gradcam_callbacks.publishing.mlflow_store import choose_run, refuse_autolog_without_tensorboard

            refuse_autolog_without_tensorboard()
            store = run = choose_run(self.run_id)
            run.find_model_in_training()
            recorder = Recorder.open(store, self.probes, manifest, delivery)
            recorder.model_in_training = run.model_in_training
            return recorder
        return Recorder.open(store, self.probes, manifest, delivery)

    def _close(self, status: str) -> None:
        """Closes the session if one is open."""
        session, self._session = self._own_session(), None
        if session is not None:
            session.close(status)

    def _own_session(self) -> Session | None:
        """The session that is open, unless this process was forked from the one that trains, which is said once."""
        if self._session is not None and not self._session.is_of_this_process:
            self._session = None
            logger.warning(
                "This process was forked from one that trains; only that one goes on to record the training."
            )
        return self._session

    def __getstate__(self) -> dict[str, Any]:
        """The settings, without anything of a training."""
        settings = {name: value for name, value in vars(self).items() if name not in ("_of_thread", "_latest")}
        return settings | {"problems": 0, "explainer": None}

    def __copy__(self) -> GradCAMCallback:
        """A new callback of the same settings."""
        return _restored(type(self), self.__getstate__())

    def __deepcopy__(self, memo: dict[int, Any]) -> GradCAMCallback:
        """A new callback of copied settings; the store is shared: who holds it looks there for what is recorded."""
        made: Any = type(self).__new__(type(self))
        memo[id(self)] = made
        memo[id(self.store)] = self.store
        vars(made).update(copy.deepcopy(self.__getstate__(), memo))
        made._forget_trainings()
        return made  # type: ignore[no-any-return]

    def __reduce__(self) -> Any:
        """Takes functions of the user's along that pickle alone does not, such as a lambda among the targets."""
        import cloudpickle

        return _unpickled, (cloudpickle.dumps((type(self), self.__getstate__())),)

    def _count_problem(self) -> None:
        self.problems += 1


def _restored(kind: type[GradCAMCallback], state: dict[str, Any]) -> GradCAMCallback:
    """A callback of these settings."""
    made: Any = kind.__new__(kind)
    vars(made).update(state)
    made._forget_trainings()
    return made  # type: ignore[no-any-return]


def _unpickled(content: bytes) -> GradCAMCallback:
    """The callback whose class and settings were pickled."""
    import cloudpickle

    return _restored(*cloudpickle.loads(content))


def _can_be_run(model: keras.Model | None) -> keras.Model:
    """The model.

    Raises:
        GradCAMError: if there is none, or it is one that Keras can train and not call.
    """
    if model is None:
        raise GradCAMError(
            "The callback knows no model.", "Call its set_model(model) before on_train_begin(), as `fit` does."
        )
    if type(model).call is keras.Model.call:
        raise GradCAMError(
            f"Model '{model.name}' has no `call`, so that it gives nothing for a picture.",
            "Give it one that runs the part to explain, such as `def call(self, x): return self.discriminator(x)`.",
        )
    return model


def _check_numbers(every: int, every_batches: int | None, flush_timeout: float) -> None:
    """Refuses numbers that make no sense.

    Raises:
        GradCAMError: if there are some.
    """
    for argument, unit, number in (("every", "epoch", every), ("every_batches", "batch", every_batches)):
        if number is not None and number < 1:
            raise GradCAMError(
                f"From one record to the next it is at least 1 {unit}, not {number}.",
                "Pass {argument} or more.",
                argument=argument,
                value=1,
            )
    if not 0 <= flush_timeout <= threading.TIMEOUT_MAX:
        raise GradCAMError(
            f"The time to wait for MLflow is a number of seconds, 0 or more, not {flush_timeout}.",
            "Pass {argument}, for example.",
            argument="flush_timeout",
            value=60,
        )
