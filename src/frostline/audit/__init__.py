"""Is freezing a valid fidelity here? Scores over the grid of layers × samples, what they say, and the ladder that follows."""
