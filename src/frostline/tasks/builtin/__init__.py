"""The built-in tasks themselves: one module a task, and what several of them share."""
