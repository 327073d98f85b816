"""Freezing a model in place, and proving that it saved."""
