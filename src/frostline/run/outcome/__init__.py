"""What came of a search: its answer, its figures, the sentences that say them, and the models that are kept."""
