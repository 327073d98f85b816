"""Ranks, and how sure they are: one of each for searches, audits and replays."""
