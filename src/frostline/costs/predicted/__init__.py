"""What a step costs, told without running it: its operations, their memory, and what an allocator makes of that."""
