"""One run: its explanations are measured, journaled, drawn and sent. The core can be read without it.

For those who write a store, `gradcam_callbacks.publishing.store` is API: what it gets, and what it raises. All else
that users import stands in `gradcam_callbacks`.
"""

__all__ = ["store"]
