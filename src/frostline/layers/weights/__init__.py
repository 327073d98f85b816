"""Weights that weigh almost nothing: made later, kept in fewer bytes, streamed from a file."""
