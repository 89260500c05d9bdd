"""EP-SAM: tumour areas from labels of whole patches: a classifier's heat map prompts SAM."""
