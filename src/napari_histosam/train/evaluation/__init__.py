"""How good a prompt model is: simulated prompts, figures, a report."""
