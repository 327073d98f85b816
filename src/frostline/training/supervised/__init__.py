"""The ready-made task: a model, examples with targets, a loss; what it is made of, and whether that can be trained."""
