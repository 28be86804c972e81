"""One training: which of its steps are recorded, how it ended, and what is explained on the way.

No API: what users import stands in `gradcam_callbacks`.
"""

__all__: list[str] = []
