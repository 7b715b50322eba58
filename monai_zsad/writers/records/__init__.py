"""Records of a case as JSON and CSV: findings, scores, and the manifest with the fingerprint."""
