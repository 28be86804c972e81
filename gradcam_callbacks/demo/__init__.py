"""The built-in story: the same network with and without a watermark in its training pictures."""
