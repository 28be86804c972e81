"""What is on disk, typed: the manifest, the steps, and the journal that keeps them."""
