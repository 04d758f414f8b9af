"""The commands, by intent. A module is imported when one of its commands is called."""
