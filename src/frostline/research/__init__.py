"""The method itself studied: replays on recorded tables, the paper redone. Nothing of the product imports this."""
