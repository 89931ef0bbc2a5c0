"""What one would write by hand instead: the shortest honest programs, without checkpoints."""
