"""How jobs become evaluations: in this process, in several side by side, on a simulated clock; and on which device."""
