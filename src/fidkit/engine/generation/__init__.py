"""How answers are written, one token at a time: greedy, beams, samples."""
