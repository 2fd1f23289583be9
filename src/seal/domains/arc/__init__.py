"""Few-shot learning on ARC puzzles: the model plans how to train on the example pairs, and answers after that training."""
