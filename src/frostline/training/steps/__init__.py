"""What a training step does beside the model: optimizers, rates and their schedules, whether all is finite."""
