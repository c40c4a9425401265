"""The instructor's office: where the labs are written, built and graded. Students never need it."""
