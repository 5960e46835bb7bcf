"""Picture files opened safely, described, turned into samples; and back, with all that must survive the trip."""
