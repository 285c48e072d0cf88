"""The data and its rules: one file per resource. Models commit nothing and enqueue nothing."""
