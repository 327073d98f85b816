"""Successive halving within what a search may cost: budgets, prices of rungs, and the climb that they pay for."""
