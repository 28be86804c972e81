"""Models to maps: the core that every driver shares, and the only folder that differentiates."""
