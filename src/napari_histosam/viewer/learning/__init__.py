"""Learning in the app: what there is to learn from, the training beside the window, the choice."""
