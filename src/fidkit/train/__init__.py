"""Making readers: vocabulary, data, objectives, the loop."""
