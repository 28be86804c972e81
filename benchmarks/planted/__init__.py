"""Trainings with planted shortcuts, the truth about each, and the odds of a verdict: the parts of `verdicts.py`."""
