"""A gesture classifier trained on a run: models, measures, and what an exported model recognises."""
