"""Care of what is stored: runs that are deleted, data that are not kept, garbage that is collected, bytes verified."""
