"""What is known of a search: the configurations drawn, what is under way, and the evaluations that ended.

Contract (the owner of ``search/`` completes this; the tuner, the study and the searches rely on these names).
"""
