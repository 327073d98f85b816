"""Where a forward pass is cut: the order of execution, and what crosses into the trained layers."""
