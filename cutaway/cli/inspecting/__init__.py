"""`cutaway inspect …`, a file for each command."""
