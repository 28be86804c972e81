"""Models to maps: the core that every driver shares.

Only this folder differentiates, and only it knows the engines that Keras runs on, which is why TensorFlow's own
checkpoints are read here (`weights`). Nothing here knows of journals, of MLflow, or of how a run is judged.

`explain`, `explainer` and `evaluating/` are what users call, `explanation` what they get. Below them `capture` traces
the graph of one `Request`: `layers` and `calls` see what the layers give, `views` reads it as maps, `picking` chooses
one, `head` finds the scores, `methods` are the formulas, `maps` and `masking` apply them. All of these are written
once, over the seam of `engines/`: what a forward pass consists of, in words that are the same for all engines, and how
gradients are had. What is private in Keras is used in `keras_internals` alone.

No API: what users import stands in `gradcam_callbacks`.
"""

__all__: list[str] = []
