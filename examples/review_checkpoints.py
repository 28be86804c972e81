"""Review a training that nobody watched: a folder of checkpoints becomes one run in MLflow.

    python examples/review_checkpoints.py
    mlflow server --port 5000 --backend-store-uri sqlite:///mlflow.db

A small training on drawn pictures saves its checkpoints first: put your own folder in their place. The same on the
command line: `gradcam checkpoints ckpt/ --probes probes/`.
"""

import keras
import mlflow

from gradcam_callbacks import ProbeSet, explain_checkpoints
from gradcam_callbacks.demo import CLASS_NAMES, build_model, make_pictures

x_train, y_train, _ = make_pictures(240, seed=1, watermark=False)
x_val, y_val, regions = make_pictures(8, seed=2, watermark=False)

model = build_model()
model.compile("adam", "sparse_categorical_crossentropy")
save = keras.callbacks.ModelCheckpoint("ckpt/boats-{epoch:02d}.keras")
model.fit(x_train, y_train, epochs=3, callbacks=[save], verbose=2)

# What a person would have liked to know: does it look at the object, whose mask is known here?
probes = ProbeSet(x_val, labels=y_val, targets=["label"], class_names=CLASS_NAMES, regions=list(regions))

mlflow.set_tracking_uri("sqlite:///mlflow.db")
sweep = explain_checkpoints("ckpt", probes, experiment="post-hoc")
print(f"Explained {len(sweep.recorded)} checkpoints into run {sweep.run_id}; not explained: {dict(sweep.problems)}.")
