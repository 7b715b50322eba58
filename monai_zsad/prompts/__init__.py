"""Words for normal and anomalous: data and the code that combines them; strings only."""
