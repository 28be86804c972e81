"""What the callback needs to know of a training: whose turn it is, and how it ended."""
