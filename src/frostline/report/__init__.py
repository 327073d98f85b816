"""One page that needs nothing else: what a search found, or whether freezing is a valid fidelity here."""
