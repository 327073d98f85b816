"""What is seen of a search while it runs: on a terminal, in a notebook, and as lines of plain text."""
