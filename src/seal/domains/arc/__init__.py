"""Few-shot learning on ARC puzzles: the model writes a plan of how to train on the example pairs, and answers after that training."""
