"""How faithful maps are to their model: measured on spoilt pictures and spoilt weights, beside maps that know nothing.

`evaluate` is what users call, `evaluation` what they get: `Evaluation` of one method, `Comparison` of several. Below
them `measures` has the formulas and their table, `spoiling` changes pictures, `controls` draws the maps that know
nothing, `randomising` shuffles weights, `confidences` asks the model, and `bootstrap` says how sure a mean is.

No API: what users import stands in `gradcam_callbacks`.
"""

__all__: list[str] = []
