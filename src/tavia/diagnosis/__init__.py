"""Evidence in, verdict out: which seam broke and what may be done about it. Pure; health and triage call it."""
