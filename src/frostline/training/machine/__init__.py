"""What a training has of the machine: a device, memory, threads, the random generators."""
