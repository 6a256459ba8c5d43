"""From unsolicited answers to the floods that they are the echo of, in columns."""
