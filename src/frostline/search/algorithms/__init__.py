"""Which configuration is evaluated next, and at which rung: halving, Hyperband, sweeps, grids."""
