"""What is written for others: the ends that were learned, and the proof that others read it alike."""
