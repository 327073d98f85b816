"""A search's history, kept in an Optuna study: what lies where, and who else works on it."""
