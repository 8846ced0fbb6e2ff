"""`certcast doctor`: what keeps certcast from doing its work, and what to do about it (docs/doctor.md)."""
