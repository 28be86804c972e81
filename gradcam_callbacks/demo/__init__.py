"""The data of `gradcam demo`: drawn pictures of four kinds of object, and a small network that tells them apart.

Importing it loads neither TensorFlow nor MLflow.
"""

from gradcam_callbacks.demo.pictures import CLASS_NAMES, build_model, make_pictures

__all__ = ["CLASS_NAMES", "build_model", "make_pictures"]
