"""What a user must know of the layer is kept with the record, and stands on the page."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
from keras import layers
from support.models import pictures

from gradcam_callbacks import GradCAMCallback, InMemoryStore, write_report


def test_notes_of_the_layer_are_in_the_manifest_and_on_the_page(tmp_path: Path) -> None:
    """Two ways after a common layer: the sentence that names them is in manifest.json and in the report."""
    inputs = keras.Input((16, 16, 3))
    stem = layers.Conv2D(4, 3, activation="relu", name="stem")(inputs)
    ways = [
        layers.GlobalAveragePooling2D()(layers.Conv2D(4, size, activation="relu", name=name)(stem))
        for name, size in (("fine", 1), ("coarse", 5))
    ]
    model = keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.Concatenate()(ways)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    callback = GradCAMCallback(pictures(2), store=InMemoryStore(), journal_dir=tmp_path / "journal", verbose=False)
    model.fit(pictures(8), np.arange(8) % 4, epochs=2, verbose=0, callbacks=[callback])
    (note,) = json.loads((tmp_path / "journal" / "manifest.json").read_text(encoding="utf-8"))["notes"]
    assert note.startswith("All of the score goes through layer 'stem'. Side by side after it are ")
    write_report([tmp_path / "journal"], tmp_path / "page.html")
    assert "All of the score goes through layer" in (tmp_path / "page.html").read_text(encoding="utf-8")
