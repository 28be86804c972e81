"""What tests of pages in a browser share."""

PIXELS = "canvas => canvas.toDataURL()"
