"""Damaged files for every reader: `damage` damages, `kinds` lists the readers, `watch` sees what reading does."""
