"""What is on disk, typed: the manifest, the steps, and the journal that keeps them.

No API: what users import stands in `gradcam_callbacks`.
"""

__all__: list[str] = []
