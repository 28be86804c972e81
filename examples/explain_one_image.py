"""What made you think that? One picture, the model's two best guesses, three panels.

    python examples/explain_one_image.py dog_and_cat.jpg
    python examples/explain_one_image.py photo.jpg --model my_model.keras --out panels.png

Without --model it asks Xception with ImageNet weights, which Keras downloads once.
"""

import argparse

import keras

from gradcam_callbacks import explain

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("picture")
parser.add_argument("--model", help="a .keras file that takes pictures in 0..255")
parser.add_argument("--out", default="panels.png")
arguments = parser.parse_args()

if arguments.model:
    model, preprocess = keras.models.load_model(arguments.model), None
else:
    model, preprocess = keras.applications.Xception(), keras.applications.xception.preprocess_input

answer = explain(model, arguments.picture, preprocess=preprocess)
best = answer.predictions(10)[0]
for index, name, probability in best:
    print(f"{probability:6.1%}  {name} ({index})")

why = explain(model, arguments.picture, targets=[index for index, _, _ in best[:2]], preprocess=preprocess)
why.plot().savefig(arguments.out)
print(f"{why.question(0, 0)} {why.question(0, 1)} See {arguments.out}")
