"""Comparing settings: cells of a study, trained and judged on one split as children of one MLflow run."""
