"""What synthetic patches are worth: likeness, variety and memorisation, each beside what real ones give."""
