"""The method's own figures and table, made again: on the data that come with frostline, or in the original setting."""
