"""The one loop, and what it drives: executors, how trainings run, what came of them."""
