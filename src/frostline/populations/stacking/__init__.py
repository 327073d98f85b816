"""The trained layers of several configurations as one computation."""
