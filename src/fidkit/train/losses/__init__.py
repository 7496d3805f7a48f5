"""What a reader is trained for."""
