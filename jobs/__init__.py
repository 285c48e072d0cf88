"""The work: what each kind of job does, the protocol they share, and the acquirers they ask."""
