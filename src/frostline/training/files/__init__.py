"""What trainings read from disk and leave there: checkpoints, weights to start from, the best models."""
