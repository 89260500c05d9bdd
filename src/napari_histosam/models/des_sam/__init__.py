"""Decoder `des-sam`: finds all nuclei of a window and draws each; learned from boxes alone."""
