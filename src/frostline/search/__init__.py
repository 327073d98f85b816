"""Decisions only: spaces, ladders and searches. Nothing here knows torch, a disk or a clock."""
