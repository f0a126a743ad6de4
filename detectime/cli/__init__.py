"""The command `detectime`: `main` parses the command line, the other modules do what it asks for."""
