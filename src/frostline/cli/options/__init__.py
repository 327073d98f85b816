"""What commands take: options that travel together as one object, names, and whole runs in a file."""
