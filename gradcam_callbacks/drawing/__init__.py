"""Arrays to pictures: overlays, panels, figures.

All are pure functions. Nothing here knows of models, of records or of MLflow.

A signal is shown as its curve and a volume as a mosaic of its slices, so that everything after that has one RGB
picture a probe, and heat on its plane. Values are resized, never colours, and a map with no evidence in it is shown as
the plain picture.
"""

from gradcam_callbacks.drawing.colours import ALPHA, COLORMAP, colour, cover
from gradcam_callbacks.drawing.curves import curves
from gradcam_callbacks.drawing.figures import contact_sheet, figure
from gradcam_callbacks.drawing.fonts import font_path, said, warn_of_missing
from gradcam_callbacks.drawing.gradients import gradient_figure
from gradcam_callbacks.drawing.overlays import heatmaps, outline, overlays
from gradcam_callbacks.drawing.panels import CARD, sheet, tile
from gradcam_callbacks.drawing.resizing import resize_maps
from gradcam_callbacks.drawing.signals import signal_pictures
from gradcam_callbacks.drawing.volumes import slice_count, volume_pictures

__all__ = [
    "ALPHA",
    "CARD",
    "COLORMAP",
    "colour",
    "contact_sheet",
    "cover",
    "curves",
    "figure",
    "font_path",
    "gradient_figure",
    "heatmaps",
    "outline",
    "overlays",
    "resize_maps",
    "said",
    "sheet",
    "signal_pictures",
    "slice_count",
    "tile",
    "volume_pictures",
    "warn_of_missing",
]
