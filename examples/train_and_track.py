"""Train a classifier and watch in MLflow where it looks, epoch by epoch.

    python examples/train_and_track.py
    mlflow server --port 5000 --backend-store-uri sqlite:///mlflow.db

The pictures are drawn, so that the example runs anywhere: put your own in their place.
"""

import keras
import mlflow

from gradcam_callbacks import GradCAMCallback, ProbeSet
from gradcam_callbacks.demo import CLASS_NAMES, make_pictures

x_train, y_train, _ = make_pictures(240, seed=1, watermark=False)
x_val, y_val, _ = make_pictures(40, seed=2, watermark=False)

model = keras.Sequential(
    [
        keras.Input(x_train.shape[1:]),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
        keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
        keras.layers.Conv2D(64, 3, strides=2, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(len(CLASS_NAMES), activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

# The same eight pictures every epoch. For each: why its own label, why what the model says, and why a sailboat.
probes = ProbeSet(x_val[:8], labels=y_val[:8], targets=["label", "predicted", "sailboat"], class_names=CLASS_NAMES)

mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("where it looks")
with mlflow.start_run():
    model.fit(
        x_train,
        y_train,
        validation_data=(x_val, y_val),
        epochs=3,
        callbacks=[GradCAMCallback(probes)],
        verbose=2,
    )
