"""Studies: what is compared, one file a study, on one engine that runs, resumes, records and shows them all."""
