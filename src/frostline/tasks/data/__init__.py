"""What the built-in tasks learn from: texts and their tokens, images, words over groups."""
