"""The fixed pictures and targets that are explained again and again, checked before anything else happens.

What a model makes of them is not known here: see `explaining`.

No API: what users import stands in `gradcam_callbacks`.
"""

__all__: list[str] = []
