"""A drive was plugged in: who decides, who asks, who runs; and what of this machine has to be set up for that."""
