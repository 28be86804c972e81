"""The engines that Keras runs on: how each traces a model, sees its layers and takes gradients.

`engine` says what the rest of `explaining` may ask of an engine, and finds the one that Keras runs on. TensorFlow's is
`tensorflow_engine`, with `tensorflow_state`, what a run puts back. JAX's is `jax_engine`; `jax_graph` and
`jax_primitives` read what JAX traced as the operations that the rules know. What is private in TensorFlow or JAX is
used in `tensorflow_internals` and `jax_internals` alone.

No API: what users import stands in `gradcam_callbacks`.
"""

__all__: list[str] = []
