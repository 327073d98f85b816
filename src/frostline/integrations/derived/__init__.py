"""Tasks out of other people's trainers: what a trainer's parts say, and the proof that a task trains as they do."""
