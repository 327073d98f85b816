"""What people give, as text or in files: names, numbers and URLs; what is allowed of it, and what of it may be shown."""
