"""One run: its explanations are measured, journaled, drawn and sent. The core can be read without it."""
