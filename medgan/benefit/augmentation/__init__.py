"""Do synthetic cases help a segmenter that has few real ones? Bowles' experiment (2018, arXiv:1810.10863)."""
