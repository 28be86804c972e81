"""The built-in data of `gradcam demo`: drawn pictures of four kinds of object, a watermark, and a small network.

Importing it loads neither TensorFlow nor MLflow.
"""

from gradcam_callbacks.demo.pictures import (
    CLASS_NAMES,
    MARK_BOX,
    MARKED_CLASS,
    PICTURE_SIZE,
    add_watermark,
    build_model,
    make_pictures,
)

__all__ = [
    "CLASS_NAMES",
    "MARKED_CLASS",
    "MARK_BOX",
    "PICTURE_SIZE",
    "add_watermark",
    "build_model",
    "make_pictures",
]
