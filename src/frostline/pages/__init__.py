"""Pages of figures, tables and words that need no network: what reports, costs and reproductions are written with."""
