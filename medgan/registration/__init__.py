"""Raw pairs of scans brought onto one grid: search, judgement, files."""
