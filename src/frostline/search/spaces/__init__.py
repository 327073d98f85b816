"""What is searched: hyperparameters, their ranges, and where a configuration lies among all."""
