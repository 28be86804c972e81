"""Saved checkpoints, found, loaded and explained one after the other."""
