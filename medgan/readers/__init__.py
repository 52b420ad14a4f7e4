"""Reader studies: do people tell synthetic images from real ones, and do they read them alike?"""
