"""One training with a planted mark, how far it relies on the mark after each epoch, and the file that keeps it."""

from __future__ import annotations

import functools
import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from planted import marks, networks, pictures

__all__ = ["ARMS", "EPOCHS", "Settings", "Training", "load", "network", "path", "reliance", "train", "truth"]

Array = np.ndarray[Any, np.dtype[Any]]

EPOCHS = 8
PER_CLASS = {"small": 200, "lite0": 100}
"""Training pictures a class, chosen anew for each training out of three or one and a half times as many."""

_POOL = {"small": 1200, "lite0": 600}

WRONG_LABELS = 0.3
"""Share of the training pictures with a random label, where the objects are so easy that no mark would be learned."""

ARMS: dict[str, float] = {"none": 0.0, "half": 0.5, "20": 0.2, "60": 0.6, "100": 1.0}
"""Share of the training pictures that carry the mark: of all classes for "none" and "half", else of one class."""


@dataclass(frozen=True)
class Settings:
    """What is trained: one cell of the grid, and the seed.

    Attributes:
        pictures: one of `pictures.KINDS`.
        network: "small" or "lite0".
        mark: one of `marks.MARKS`; in the arm "none" only the reliance is measured with it.
        arm: one of `ARMS`.
        seed: of pictures, marks and weights; even and odd ones have pictures of their own.
    """

    pictures: str
    network: str
    mark: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the training, and of its file."""
        return f"{self.pictures}-{self.network}-{self.mark}-{self.arm}-s{self.seed}"

    @property
    def marked_class(self) -> int | None:
        """The class that carries the mark; it takes turns. None where no class does more than others."""
        if self.arm in ("none", "half"):
            return None
        return (self.seed // 2 + self.seed + list(marks.MARKS).index(self.mark)) % pictures.CLASSES

    @property
    def has_wrong_labels(self) -> bool:
        """Whether some training labels are wrong, before the mark is added: each labelled picture carries it then."""
        return self.network == "lite0" or self.pictures == "crops"

    @property
    def look(self) -> tuple[int, int]:
        """Seed of the mark's look: one a seed and mark, so that the arms differ in nothing else."""
        return self.seed, list(marks.MARKS).index(self.mark)


@dataclass(frozen=True)
class Training:
    """A finished training. E epochs, P probes, W trained numbers of the network.

    Attributes:
        settings: what was trained.
        weights: (1 + E, W) float32: before the first epoch, then after each.
        logs: (E,) arrays by name: "loss" and "accuracy" while training, "val_accuracy" on pictures marked as in
            training, "val_accuracy_unmarked", "reliance", and "reliance_class", the class that it is about.
        images: (P, side, side, 3) uint8: the probes, as the network is fed.
        labels: (P,) int64.
        regions: (P, side, side) bool: where the object is.
        mark_masks: (P, side, side) bool: where the mark is; empty for probes without one.
        clean_images: (P, side, side, 3) uint8: the probes without any mark.
    """

    settings: Settings
    weights: Array
    logs: dict[str, Array]
    images: Array
    labels: Array
    regions: Array
    mark_masks: Array
    clean_images: Array

    @property
    def reliance(self) -> float:
        """Reliance at the end of the training."""
        return _end(self.logs["reliance"])[0]

    @property
    def relies_from(self) -> int | None:
        """First epoch from which on the reliance is at least 0.5 until the end; None if there is none."""
        return _end(self.logs["reliance"])[1]


def path(settings: Settings, work: Path) -> Path:
    """Where a training is kept."""
    return work / "trainings" / f"{settings.name}.npz"


def load(file: Path) -> Training:
    """Reads a training from its file."""
    with np.load(file) as stored:
        arrays = dict(stored)
    settings = Settings(**json.loads(str(arrays.pop("settings"))))
    logs = {name.removeprefix("log_"): arrays.pop(name) for name in list(arrays) if name.startswith("log_")}
    return Training(settings, logs=logs, **arrays)


def truth(file: Path) -> tuple[float, int | None]:
    """`Training.reliance` and `Training.relies_from`, without reading the rest of the file."""
    with np.load(file) as stored:
        return _end(stored["log_reliance"])


def network(training: Training, epoch: int = EPOCHS - 1) -> keras.Model:
    """The model as it was after an epoch: from pictures in 0..255 to probabilities.

    It is the same object for all trainings of a network, so that what was traced for it stays of use: the next call
    changes its weights.

    Args:
        training: the training.
        epoch: 0-based; -1 is the untrained network.

    Returns:
        The model, with the weights of that epoch.
    """
    model, trained = networks.whole(training.settings.network)
    _assign(trained, training.weights[epoch + 1])
    return model


def train(settings: Settings, work: Path) -> Path:
    """Trains, unless the file is there already.

    Args:
        settings: what is trained.
        work: folder of pictures and trainings.

    Returns:
        The file: `work`/trainings/NAME.npz.
    """
    target = path(settings, work)
    if target.exists():
        return target
    data = _data(settings.pictures, settings.network, settings.seed % 2, work)
    rng = np.random.default_rng([settings.seed, zlib.crc32(settings.name.encode())])
    candidates = data.parts["training"].labels[: _POOL[settings.network]]
    chosen = _chosen(candidates, PER_CLASS[settings.network], rng)
    labels = candidates[chosen]
    if settings.has_wrong_labels:
        wrong = rng.random(len(labels)) < WRONG_LABELS
        labels = np.where(wrong, rng.integers(pictures.CLASSES, size=len(labels)), labels)
    inputs = data.inputs("training", chosen, _marked(labels, settings, rng), settings)

    validation = data.parts["validation"].labels
    everyone = np.arange(len(validation))
    clean = data.inputs("validation", everyone, np.zeros(len(everyone), bool), settings)
    marked = data.inputs("validation", everyone, np.ones(len(everyone), bool), settings)
    is_marked = _marked(validation, settings, rng)

    trainer = networks.trainer(settings.network)
    trainer.start(int(rng.integers(2**31)))
    weights = [_flat(trainer.model.weights)]
    rows: list[dict[str, float]] = []
    for epoch in range(EPOCHS):
        rate = 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))
        loss, accuracy = trainer.epoch(inputs, labels, rng.permutation(len(labels)), rate)
        before, after = trainer.answers(clean).argmax(axis=1), trainer.answers(marked).argmax(axis=1)
        share, about = reliance(before, after, validation, settings.marked_class)
        as_trained = np.where(is_marked, after, before)
        rows.append(
            {
                "loss": loss,
                "accuracy": accuracy,
                "val_accuracy": float((as_trained == validation).mean()),
                "val_accuracy_unmarked": float((before == validation).mean()),
                "reliance": share,
                "reliance_class": about,
            }
        )
        weights.append(_flat(trainer.model.weights))

    probes = data.parts["probes"]
    picked = _chosen(probes.labels, 4, rng)
    carries = _marked(probes.labels[picked], settings, rng, at_least=2)
    images, masks = data.pictures("probes", picked, carries, settings)
    arrays = {
        "weights": np.stack(weights),
        **{f"log_{name}": np.array([row[name] for row in rows]) for name in rows[0]},
        "images": images,
        "labels": probes.labels[picked],
        "regions": probes.masks[picked],
        "mark_masks": masks,
        "clean_images": probes.images[picked],
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(file, settings=json.dumps(asdict(settings)), **arrays)
    temporary.replace(target)
    return target


def reliance(before: Array, after: Array, labels: Array, marked_class: int | None) -> tuple[float, int]:
    """How far a network relies on a mark, by what it does.

    Args:
        before: (N,) its answers on pictures without the mark.
        after: (N,) its answers on the same pictures with it.
        labels: (N,) their classes.
        marked_class: the class that carries the mark in training; None asks about the class where the share is highest.

    Returns:
        The share of the pictures of other classes, not answered as that class before, that turn into it; and the class.
        0 where there is no such picture.
    """
    shares = {}
    for about in range(pictures.CLASSES) if marked_class is None else (marked_class,):
        others = (labels != about) & (before != about)
        shares[about] = float((after[others] == about).mean()) if others.any() else 0.0
    about = max(shares, key=lambda label: shares[label])
    return shares[about], about


class _Data:
    """The parts of a set of pictures, as one network takes them.

    Features of lite0 are computed once: of pictures without a mark for good, of marked ones until another mark or look
    is asked for, since the arms of a mark follow each other.
    """

    def __init__(self, network: str, parts: dict[str, pictures.Pictures]) -> None:
        self.parts = parts
        self._network = network
        self._clean: dict[str, Array] = {}
        self._look: tuple[int, int] | None = None
        self._marked: dict[tuple[str, int], Array] = {}

    def pictures(self, part: str, indices: Array, marked: Array, settings: Settings) -> tuple[Array, Array]:
        """Pictures of a part, some of them marked, and where the mark is."""
        data = self.parts[part]
        images, where = data.images[indices].copy(), np.zeros(data.masks[indices].shape, bool)
        if marked.any():
            images[marked], where[marked] = self._with_mark(part, indices[marked], settings)
        return images, where

    def inputs(self, part: str, indices: Array, marked: Array, settings: Settings) -> Array:
        """What the trained model takes of the same: pictures, or features of the frozen part; float32."""
        if self._network == "small":
            return self.pictures(part, indices, marked, settings)[0].astype(np.float32)
        if part not in self._clean:
            self._clean[part] = networks.features(self.parts[part].images[: _POOL["lite0"]])
        inputs = self._clean[part][indices]
        if marked.any():
            inputs[marked] = self._marked_features(part, indices[marked], settings)
        return inputs

    def _with_mark(self, part: str, indices: Array, settings: Settings) -> tuple[Array, Array]:
        data = self.parts[part]
        places = [(settings.seed, list(pictures.PARTS).index(part), int(index)) for index in indices]
        return marks.add(settings.mark, data.images[indices], data.masks[indices], look=settings.look, places=places)

    def _marked_features(self, part: str, indices: Array, settings: Settings) -> Array:
        if self._look != settings.look:
            self._look, self._marked = settings.look, {}
        missing = np.array([index for index in indices if (part, int(index)) not in self._marked], int)
        if missing.size:
            images, _ = self._with_mark(part, missing, settings)
            self._marked.update(
                ((part, int(index)), one) for index, one in zip(missing, networks.features(images), strict=True)
            )
        return np.stack([self._marked[part, int(index)] for index in indices])


@functools.lru_cache(maxsize=2)
def _data(kind: str, network: str, half: int, work: Path) -> _Data:
    return _Data(network, pictures.load(kind, networks.SIDES[network], half, work))


def _chosen(labels: Array, count: int, rng: np.random.Generator) -> Array:
    """`count` random indices of each class, the classes taking turns."""
    return np.stack(
        [rng.choice(np.flatnonzero(labels == label), count, replace=False) for label in range(pictures.CLASSES)], axis=1
    ).ravel()


def _marked(labels: Array, settings: Settings, rng: np.random.Generator, at_least: int = 0) -> Array:
    """Which pictures carry the mark: (N,) bool."""
    share = ARMS[settings.arm]
    marked = np.zeros(len(labels), bool)
    about = settings.marked_class
    candidates = np.arange(len(labels)) if about is None else np.flatnonzero(labels == about)
    count = round(share * len(candidates))
    if share:
        count = max(count, at_least)
    marked[rng.choice(candidates, count, replace=False)] = True
    return marked


def _end(course: Array) -> tuple[float, int | None]:
    """The reliance after the last epoch, and the first epoch from which on it is at least 0.5 to the end."""
    below = np.flatnonzero(course < 0.5)
    first = int(below[-1]) + 1 if below.size else 0
    return float(course[-1]), first if first < len(course) else None


def _flat(weights: list[Any]) -> Array:
    return np.concatenate([np.asarray(weight).ravel() for weight in weights]).astype(np.float32)


def _assign(weights: list[Any], values: Array) -> None:
    start = 0
    for weight in weights:
        count = int(np.prod(weight.shape))
        weight.assign(values[start : start + count].reshape(weight.shape))
        start += count
    assert start == len(values), f"{len(values)} values for {start} weights."
