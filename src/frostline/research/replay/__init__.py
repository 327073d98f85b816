"""Searches replayed on recorded tables in seconds, and the synthetic tables where the answer is known."""
