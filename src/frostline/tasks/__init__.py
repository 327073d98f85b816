"""The built-in tasks: models and data that frostline can tune with no file of the user's own."""
