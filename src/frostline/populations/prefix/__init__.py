"""The frozen layers that a population shares: computed once, proven, kept."""
