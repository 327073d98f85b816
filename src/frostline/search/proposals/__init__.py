"""Which values a new configuration gets: Optuna's samplers, a user's belief, models of what was found."""
