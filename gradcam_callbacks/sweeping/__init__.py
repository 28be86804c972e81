"""Saved checkpoints: found, loaded one after the other, explained, and recorded as one run.

`gradcam_callbacks.explain_checkpoints` and `Sweep` are public; the modules of this folder are not. To add a format of
checkpoints, write a class in `formats.py`.

No API: what users import stands in `gradcam_callbacks`.
"""

__all__: list[str] = []
