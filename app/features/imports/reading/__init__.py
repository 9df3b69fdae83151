"""Reading: from the bytes of a file to the members that each row states, as its `Reading` says."""
