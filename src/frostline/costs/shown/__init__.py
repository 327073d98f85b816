"""Costs and what fits, as tables, as tidy files, and as pages."""
