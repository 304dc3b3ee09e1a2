"""Fuzzing: inputs altered at random, under coverage, against everything that reads what strangers wrote."""
