"""Files that were made to do harm, or were harmed, by kind: each a name and bytes."""
