"""What a reader learns from: examples out of questions, passages and texts, as one stream."""
