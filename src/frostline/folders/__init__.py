"""Folders that trainings write into: on this machine, or behind a URL, in an object store or on another machine."""
