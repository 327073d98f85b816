"""Several workers on one study: who is there, what they tell each other, whose turn it is, and who has died."""
