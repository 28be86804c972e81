"""`python -m gradcam_callbacks` is the command `gradcam`."""

from gradcam_callbacks.cli import main

main(prog_name="gradcam")
