"""One run: its explanations are measured, journaled, drawn and sent. The core can be read without it.

No API: what users import stands in `gradcam_callbacks`.
"""

__all__: list[str] = []
