"""What a training step costs at each fidelity: measured where it can run, predicted where it cannot."""
