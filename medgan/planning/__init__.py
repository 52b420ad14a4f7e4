"""From a cohort and a device to the settings of a training, with a reason for each."""
