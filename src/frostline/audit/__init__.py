"""Is freezing a valid fidelity here? Scores over layers × samples, what they say, and the ladder that follows."""
