"""Loaded last by the parent of ``processes``: what is there is no garbage, and its forks do not look for any in it."""

import gc

gc.collect()
gc.freeze()
