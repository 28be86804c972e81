"""Records to numbers, events, a sentence and a page. Pure functions of a record that know nothing of models.

No API: what users import stands in `gradcam_callbacks`.
"""

__all__: list[str] = []
