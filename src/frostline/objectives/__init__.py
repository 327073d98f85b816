"""A training of the user's own, written as an objective in Optuna's manner: what it is given, and what is made of it."""
