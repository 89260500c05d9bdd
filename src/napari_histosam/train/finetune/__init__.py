"""Fine-tunes any `Trainable` decoder on labelled folders."""
