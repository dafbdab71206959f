"""The panel: one small file a task, and what all tasks share."""
