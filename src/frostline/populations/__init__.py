"""Many configurations trained together behind one frozen prefix."""
