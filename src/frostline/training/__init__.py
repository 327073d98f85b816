"""Training one configuration at one fidelity: tasks, schedules, the serial reference, checkpoints."""
