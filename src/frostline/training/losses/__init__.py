"""Losses whose logits are never held whole."""
